// What CMake makes of the machine, with stand-ins for compilers. Nothing of the engine is compiled.
import { spawnSync } from 'node:child_process';
import { chmodSync, mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t from 'tap';

const ROOT = fileURLToPath(new URL('../../', import.meta.url));

const cmake = (...words: string[]) => spawnSync('cmake', words, { encoding: 'utf8' });
const output = (program: string, ...words: string[]) => spawnSync(program, words, { encoding: 'utf8' }).stdout ?? '';

function program(path: string, text: string): string {
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, `#!/bin/sh\n${text}\n`);
  chmodSync(path, 0o755);
  return path;
}

const isGnu = output('g++', '--version').includes('Free Software Foundation') && output('cmake', '--version') !== '';

t.test('a compiler that is too old is named', { skip: !isGnu && 'no CMake or no GCC' }, async (t) => {
  const folder = t.testdir();
  const compiler = program(join(folder, 'g++-9'), 'exec g++ -U__GNUC__ -D__GNUC__=9 "$@"');
  const { status, stderr } = cmake('-S', ROOT, '-B', join(folder, 'build'), `-DCMAKE_CXX_COMPILER=${compiler}`);
  t.equal(status, 1);
  t.match(stderr.replaceAll(/\s+/g, ' '), /expected GCC 10, Clang 9 or newer, found GNU 9\.\d+\.\d+ \(.*g\+\+-9\)/);
});

const hasNinja = output('cmake', '--version') !== '' && output('ninja', '--version') !== '';

t.test('a comma in the path costs no kernels', { skip: !hasNinja && 'no CMake or no ninja' }, async (t) => {
  const folder = t.testdir();
  const nvcc = program(
    join(folder, 'toolkit', 'nvcc'),
    `case "$*" in
       *--version*) echo Cuda compilation tools, release 13.0, V13.0.1 ;;
       *--list-gpu-arch*) echo compute_80 ;;
       *) while [ $# -gt 0 ]; do [ "$1" = -o ] && echo code > "$2"; shift; done ;;
     esac`,
  );
  // As NVIDIA's, it takes what stands between commas as options of its own.
  program(
    join(folder, 'toolkit', 'fatbinary'),
    `for word in "$@"; do
       case "$word" in
         --create=*) image="\${word#*=}" ;;
         --image3=*) IFS=,; for option in \${word#*=}; do
           case "$option" in
             kind=*|sm=*) ;;
             file=*) [ -f "\${option#*=}" ] || { echo "no $option" >&2; exit 1; } ;;
             *) echo "unknown $option" >&2; exit 1 ;;
           esac
         done ;;
       esac
     done
     echo image > "$image"`,
  );
  const build = join(folder, 'a, b');
  const configured = cmake('-S', ROOT, '-B', build, '-G', 'Ninja', `-DKOTODAMA_NVCC=${nvcc}`);
  t.equal(configured.status, 0, configured.stderr);
  const built = cmake('--build', build, '--target', 'csrc/cuda/kernels.fatbin');
  t.equal(built.status, 0, built.stdout);
});
