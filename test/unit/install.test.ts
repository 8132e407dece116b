// The install script with stand-ins for cmake-js, which writes down how it was called, and for the addon's loader.
import { spawnSync } from 'node:child_process';
import { chmodSync, copyFileSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t, { type Test } from 'tap';

const SCRIPT = fileURLToPath(new URL('../../scripts/install.mjs', import.meta.url));

interface Machine {
  /** Whether the addon loads before anything is built; it does afterwards. */
  loads?: boolean;
  /** Calls of cmake-js that fail, such as `configure AUTO`. */
  failing?: string;
  /** The version that CMake tells. */
  cmake?: string;
  /** More files, as path and text. */
  files?: Record<string, string>;
  environment?: Record<string, string>;
}

/** The calls of cmake-js, each as its command and what it was told about nvcc; the exit code; what was said. */
function install(t: Test, machine: Machine) {
  const { loads = false, failing = 'none', cmake = '3.25.1', files = {}, environment = {} } = machine;
  const root = t.testdir();
  const calls = join(root, 'calls.txt');
  const write = (path: string, text: string) => {
    mkdirSync(join(root, path, '..'), { recursive: true });
    writeFileSync(join(root, path), text);
    chmodSync(join(root, path), 0o755);
  };
  mkdirSync(join(root, 'scripts'));
  copyFileSync(SCRIPT, join(root, 'scripts', 'install.mjs'));
  if (loads) write('built', '');
  write(
    'node_modules/node-gyp-build/index.js',
    "module.exports = (root) => { if (!require('fs').existsSync(root + '/built')) throw new Error('no addon'); };",
  );
  write(
    'node_modules/cmake-js/bin/cmake-js',
    `const { appendFileSync, writeFileSync } = require('fs');
     const [command, option] = process.argv.slice(2);
     const call = [command, /^--CDKOTODAMA_NVCC=(.*)/.exec(option)?.[1]].filter(Boolean).join(' ');
     appendFileSync(${JSON.stringify(calls)}, call + '\\n');
     if (command === 'build') writeFileSync(${JSON.stringify(join(root, 'jobs'))}, process.argv.at(-1));
     if (call === ${JSON.stringify(failing)}) process.exit(1);
     if (command === 'build') writeFileSync(${JSON.stringify(join(root, 'built'))}, '');`,
  );
  // Tools that are looked for, whatever this machine has.
  for (const tool of ['c++', 'make']) write(`tools/${tool}`, '#!/bin/sh\n');
  write('tools/cmake', `#!/bin/sh\necho cmake version ${cmake}\n`);
  for (const [path, text] of Object.entries(files)) write(path, text);
  const { npm_command: _, KOTODAMA_INSTALL: __, CXX: ___, ...rest } = process.env;
  const PATH = `${join(root, 'tools')}${delimiter}${process.env.PATH}`;
  const env = { ...rest, ...environment, PATH };
  const { status, stderr } = spawnSync(process.execPath, [join(root, 'scripts', 'install.mjs')], {
    env,
    encoding: 'utf8',
  });
  const lines = existsSync(calls) ? readFileSync(calls, 'utf8').trim().split('\n') : [];
  return { calls: lines, status, stderr };
}

const WHOLE = ['configure AUTO', 'build'];

t.test('an addon that is missing is built, one that loads is kept', async (t) => {
  t.same(install(t, {}), { calls: WHOLE, status: 0, stderr: '' });
  t.same(install(t, { loads: true }), { calls: [], status: 0, stderr: '' });
  t.same(install(t, { environment: { KOTODAMA_INSTALL: 'skip' } }), { calls: [], status: 0, stderr: '' });
});

t.test('`npm rebuild` and force look for nvcc again', async (t) => {
  const reasons: Record<string, string>[] = [{ npm_command: 'rebuild' }, { KOTODAMA_INSTALL: 'force' }];
  for (const environment of reasons) {
    t.same(install(t, { loads: true, environment }), { calls: WHOLE, status: 0, stderr: '' });
  }
});

t.test('kernels that do not compile cost the GPU alone, but for strict installations', async (t) => {
  const failing = 'configure AUTO';
  const without = install(t, { failing });
  t.same([without.calls, without.status], [[failing, 'configure OFF', 'build'], 0]);
  t.match(without.stderr, /without CUDA kernels/);
  const strict = install(t, { failing, environment: { KOTODAMA_INSTALL: 'strict' } });
  t.same([strict.calls, strict.status], [[failing], 1]);
  t.match(strict.stderr, /did not compile/);
  const hopeless = install(t, { failing: 'build' });
  t.same([hopeless.calls, hopeless.status], [[...WHOLE, 'configure OFF', 'build'], 0]);
  t.match(hopeless.stderr, /cannot train until/);
});

t.test('an engine that works outlasts a build that fails', async (t) => {
  const rebuild = { loads: true, environment: { npm_command: 'rebuild' } };
  for (const failing of ['configure AUTO', 'build']) {
    const { calls, status, stderr } = install(t, { ...rebuild, failing });
    t.same([calls, status], [failing === 'build' ? WHOLE : [failing], 0], 'none without kernels is built in its place');
    t.match(stderr, /did not compile.*\n.*The engine built before is kept/);
    t.notMatch(stderr, /cannot train until/);
  }
  const strict = { npm_command: 'rebuild', KOTODAMA_INSTALL: 'strict' };
  const { calls, status, stderr } = install(t, { loads: true, failing: 'build', environment: strict });
  t.same([calls, status], [WHOLE, 1]);
  t.match(stderr, /The engine built before is kept/);
  const old = install(t, { ...rebuild, cmake: '3.10.2' });
  t.same([old.calls, old.status], [[], 0]);
  t.match(old.stderr, /needs CMake 3\.18 or newer.*not found(.|\n)*The engine built before is kept/);
  t.notMatch(old.stderr, /cannot train until/);
});

t.test('what an earlier build found is looked for again, what it compiled is kept', async (t) => {
  const stale = ['build/CMakeCache.txt', 'build/CMakeFiles/3.25.1/CMakeSystem.cmake'];
  const object = 'build/csrc/CMakeFiles/kotodama_core.dir/model.cc.o';
  const files = Object.fromEntries([...stale, object].map((path) => [path, '']));
  t.equal(install(t, { files }).status, 0);
  t.same(
    [...stale, object].map((path) => existsSync(join(t.testdirName, path))),
    [false, false, true],
  );
});

t.test('as many compilers at once as a container has memory for', async (t) => {
  for (const [limit, jobs] of [
    ['3.5 * 2 ** 30', '3'],
    ['2 ** 28', '1'],
    ['0', '8'],
  ]) {
    const preload = `Object.assign(require('os'), { availableParallelism: () => 8, totalmem: () => 2 ** 40 });
      require('module').syncBuiltinESMExports();
      process.constrainedMemory = () => ${limit};`;
    const environment = { NODE_OPTIONS: `--require ${join(t.testdirName, 'preload.cjs')}` };
    t.equal(install(t, { files: { 'preload.cjs': preload }, environment }).status, 0);
    t.equal(readFileSync(join(t.testdirName, 'jobs'), 'utf8'), jobs, `limit ${limit}`);
  }
});

t.test('CXX may have a launcher and options', async (t) => {
  const wrapped = { 'tools/launcher': '#!/bin/sh\nexec "$@"\n' };
  for (const CXX of ['c++ -m64', 'launcher c++']) {
    t.same(install(t, { files: wrapped, environment: { CXX } }), { calls: WHOLE, status: 0, stderr: '' }, CXX);
  }
  for (const CXX of ['no-such-compiler', 'launcher no-such-compiler']) {
    const { calls, stderr } = install(t, { files: wrapped, environment: { CXX } });
    t.same(calls, [], CXX);
    t.match(stderr, `CXX names "${CXX}", which does not run`);
  }
});

t.test('a KOTODAMA_INSTALL that is none of its values', async (t) => {
  for (const KOTODAMA_INSTALL of ['Strict', 'off']) {
    const { calls, status, stderr } = install(t, { environment: { KOTODAMA_INSTALL } });
    t.same([calls, status], [[], 1]);
    t.match(stderr, `KOTODAMA_INSTALL: expected one of strict, force, skip, found ${KOTODAMA_INSTALL}`);
  }
});
