// Builds the native engine on the user's machine. Run by npm as the install script.
//
// An addon that loads is kept, but for `npm rebuild`: a compiler for the kernels may have been installed since.
//
// KOTODAMA_INSTALL=strict  a failed build fails the installation (for CI)
// KOTODAMA_INSTALL=force   builds in any case
// KOTODAMA_INSTALL=skip    builds nothing

import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { availableParallelism, totalmem } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const require = createRequire(import.meta.url);
const mode = process.env.KOTODAMA_INSTALL ?? '';
const builds = mode === 'force' || process.env.npm_command === 'rebuild';
const MODES = ['strict', 'force', 'skip'];
const MINIMUM_CMAKE = [3, 18];

/** Tried in a child process, since a broken addon may take the process down. */
function addonLoads() {
  const program = `require(${JSON.stringify(require.resolve('node-gyp-build'))})(${JSON.stringify(root)})`;
  return spawnSync(process.execPath, ['-e', program], { stdio: 'ignore' }).status === 0;
}

function works(command, args = ['--version']) {
  return spawnSync(command, args, { stdio: 'ignore' }).status === 0;
}

function cmakeVersion() {
  const output = spawnSync('cmake', ['--version'], { encoding: 'utf8' }).stdout ?? '';
  const match = /version (\d+)\.(\d+)/.exec(output);
  return match === null ? undefined : [Number(match[1]), Number(match[2])];
}

/** CXX may hold words of its own after the compiler, or a launcher before it: `g++ -m64`, `ccache g++`. */
function compilerWorks(cxx) {
  const [command, ...words] = cxx.trim().split(/\s+/);
  return works(cxx) || works(command, [...words, '--version']);
}

/** What is missing, as [thing, package on Debian, on Fedora, on macOS]. */
function missingTools() {
  const missing = [];
  const { CXX } = process.env;
  if (!(CXX ? [CXX] : ['c++', 'g++', 'clang++']).some(compilerWorks)) {
    const named = CXX ? `; CXX names ${JSON.stringify(CXX)}, which does not run` : '';
    missing.push([`a C++17 compiler (GCC 10, Clang 9 or newer${named})`, 'g++', 'gcc-c++', undefined]);
  }
  const version = cmakeVersion();
  const [major, minor] = MINIMUM_CMAKE;
  if (version === undefined || version[0] < major || (version[0] === major && version[1] < minor)) {
    missing.push([`CMake ${MINIMUM_CMAKE.join('.')} or newer`, 'cmake', 'cmake', 'cmake']);
  }
  if (!works('ninja') && !works('make')) missing.push(['make or ninja', 'make', 'make', undefined]);
  return missing;
}

function installCommand(missing) {
  if (process.platform === 'darwin') {
    const steps = missing.some((tool) => tool[3] === undefined) ? ['xcode-select --install'] : [];
    const brew = missing.map((tool) => tool[3]).filter(Boolean);
    return [...steps, ...(brew.length > 0 ? [`brew install ${brew.join(' ')}`] : [])].join(' && ');
  }
  const debian = `sudo apt-get install -y ${missing.map((tool) => tool[1]).join(' ')}`;
  const fedora = `sudo dnf install -y ${missing.map((tool) => tool[2]).join(' ')}`;
  const release = existsSync('/etc/os-release') ? readFileSync('/etc/os-release', 'utf8') : '';
  if (/^ID(_LIKE)?=.*(fedora|rhel)/m.test(release)) return fedora;
  if (/^ID(_LIKE)?=.*(debian|ubuntu)/m.test(release)) return debian;
  return `${debian}   (Debian, Ubuntu)\n    ${fedora}   (Fedora)`;
}

function cmakeJs(...words) {
  const program = require.resolve('cmake-js/bin/cmake-js');
  return spawnSync(process.execPath, [program, ...words], { cwd: root, stdio: 'inherit' }).status === 0;
}

/** @param nvcc `AUTO` looks for it, `OFF` builds without kernels. */
function build(nvcc = 'AUTO') {
  // What an earlier build found holds for its folder, generator and compiler alone. Its object files are still good.
  for (const name of ['CMakeCache.txt', 'CMakeFiles']) {
    rmSync(join(root, 'build', name), { recursive: true, force: true });
  }
  // A compiler process takes up to about 1 GiB. A container may have less than the machine.
  const memory = Math.min(totalmem(), process.constrainedMemory?.() || Number.POSITIVE_INFINITY);
  const jobs = Math.max(1, Math.min(availableParallelism(), Math.floor(memory / 2 ** 30)));
  return cmakeJs('configure', `--CDKOTODAMA_NVCC=${nvcc}`) && cmakeJs('build', '--parallel', String(jobs));
}

/**
 * An nvcc that is there but does not work, too old for the compiler for instance, costs the GPU alone. An addon of an
 * earlier build, which may have kernels, is not given up for one without.
 */
function buildWithoutKernels() {
  if (addonLoads()) return false;
  process.stderr.write('\nkotodama: trying again without CUDA kernels (the CPU engine alone)\n\n');
  return build('OFF');
}

function giveUp(message) {
  const state = addonLoads()
    ? 'The engine built before is kept.'
    : 'The package is installed, but it cannot train until the engine is built.';
  process.stderr.write(`\nkotodama: ${message}\n  ${state}\n`);
  process.stderr.write('  Afterwards run: npm rebuild kotodama --foreground-scripts\n');
  process.stderr.write('    in a clone: KOTODAMA_INSTALL=force npm install --foreground-scripts\n');
  process.stderr.write('    with pnpm: pnpm approve-builds, then pnpm rebuild kotodama\n\n');
  process.exitCode = mode === 'strict' ? 1 : 0;
}

function main() {
  if (mode !== '' && !MODES.includes(mode)) {
    process.stderr.write(`\nkotodama: KOTODAMA_INSTALL: expected one of ${MODES.join(', ')}, found ${mode}\n\n`);
    process.exitCode = 1;
    return;
  }
  if (mode === 'skip' || (!builds && addonLoads())) return;
  const missing = missingTools();
  if (missing.length > 0) {
    const names = missing.map((tool) => tool[0]).join(' and ');
    giveUp(
      `the native engine needs ${names}, not found on this machine. Install with:\n    ${installCommand(missing)}`,
    );
  } else if (!build() && !(mode !== 'strict' && buildWithoutKernels())) {
    giveUp('the native engine did not compile; the compiler messages are above.');
  } else if (!addonLoads()) {
    giveUp('the native engine compiled but does not load; `npx kotodama doctor` says why.');
  }
}

main();
