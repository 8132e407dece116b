// Runs the tests of the engine in a build with AddressSanitizer and UndefinedBehaviorSanitizer:
//
//   npm run test:asan                                  the addon: test/model, but for two of its files
//   npm run test:asan -- test/model/some.test.ts ...   the addon: these tests
//   npm run test:asan -- native                        the C++ tests, each instruction set of the CPU among them
//
// The first error in the engine's memory or arithmetic ends the test that made it. Leaks are not looked for in the addon: V8
// keeps much until the process ends. Linux with GCC.

import { execFileSync, spawnSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

process.chdir(fileURLToPath(new URL('..', import.meta.url)));
// node-gyp-build looks for build/Release below the folder that KOTODAMA_PREBUILD names.
const folder = resolve('build', 'asan');
const addon = join(folder, 'build', 'Release', 'kotodama.node');
const compiler = process.env.CXX ?? 'c++';
// The kernels, too: at their usual -O3 they would take minutes to compile.
const definitions = ['KOTODAMA_NVCC=OFF', 'KOTODAMA_KERNEL_OPTIMIZATION=-O1'];
const UBSAN_OPTIONS = 'halt_on_error=1:print_stacktrace=1';
const flags = '-O1 -g1 -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer';

function run(command, words, env = {}) {
  const { status, error } = spawnSync(command, words, { stdio: 'inherit', env: { ...process.env, ...env } });
  if (error !== undefined) throw error;
  if (status !== 0) process.exit(status ?? 1);
}

function testNative() {
  const native = resolve('build', 'asan-native');
  const build = [
    '-DCMAKE_BUILD_TYPE=Release',
    `-DCMAKE_CXX_FLAGS_RELEASE=${flags}`,
    ...definitions.map((text) => `-D${text}`),
  ];
  run('cmake', ['-S', '.', '-B', native, ...build]);
  run('cmake', ['--build', native, '--parallel', '2']);
  run('ctest', ['--test-dir', native, '--output-on-failure', '--parallel', '2'], { UBSAN_OPTIONS });
}

function buildAddon() {
  const out = ['--out', join(folder, 'build')];
  // CMAKE_CXX_FLAGS are cmake-js's own. Its build alone would keep the flags of an earlier time.
  const build = [`--CDCMAKE_CXX_FLAGS_RELEASE=${flags}`, ...definitions.map((text) => `--CD${text}`)];
  run('npx', ['cmake-js', 'configure', ...out, ...build]);
  run('npx', ['cmake-js', 'build', '--parallel', '2', ...out]);
  if (!readFileSync(addon).includes('__asan_init')) throw new Error(`${addon} is not instrumented`);
}

function testAddon(named) {
  buildAddon();
  const library = (name) => execFileSync(compiler, [`-print-file-name=${name}`], { encoding: 'utf8' }).trim();
  const env = {
    KOTODAMA_PREBUILD: folder,
    LD_PRELOAD: [library('libasan.so'), library('libubsan.so')].join(':'),
    ASAN_OPTIONS: 'detect_leaks=0:allow_user_segv_handler=1',
    UBSAN_OPTIONS,
  };
  // The tests load this very file, not the usual one.
  const found = "process.stdout.write(require('node-gyp-build').path('.'))";
  const loaded = execFileSync(process.execPath, ['-e', found], { encoding: 'utf8', env: { ...process.env, ...env } });
  if (resolve(loaded) !== addon) throw new Error(`the tests would load ${loaded}`);

  // What the sanitizer keeps of freed memory would be in the figures of memory.test.ts. The 400 steps of
  // bf16-curve.test.ts would take minutes for what the steps of others do, too.
  const left = ['memory.test.ts', 'bf16-curve.test.ts'];
  const all = readdirSync('test/model').filter((name) => name.endsWith('.test.ts') && !left.includes(name));
  const files = named.length > 0 ? named : all.map((name) => join('test', 'model', name));
  run('npx', ['tap', '--disable-coverage', '--jobs=2', '--timeout=600', '--reporter=terse', ...files], env);
}

const named = process.argv.slice(2);
if (named.join() === 'native') testNative();
else testAddon(named);
