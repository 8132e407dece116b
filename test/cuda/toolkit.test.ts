// The build of the kernels by stand-ins for NVIDIA's compiler, which write down what they are.
import { mkdirSync, readFileSync, rmSync, statSync, symlinkSync, utimesSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import t from 'tap';
import { run } from './build.js';

/** A toolkit whose programs are older than all that is built with another one. */
function makeToolkit(folder: string, version: string): void {
  const programs = {
    nvcc: `case "$1" in
      --version) echo "release ${version}, V${version}.1"; exit ;;
      --list-gpu-arch) echo compute_80; exit ;;
    esac
    until [ "$1" = -o ]; do shift; done
    { echo nvcc ${version}; cat $3; } > "$2"`,
    fatbinary: `echo fatbinary ${version} > image
    for option; do case "$option" in
      --create=*) out="\${option#--create=}" ;;
      --image3=*) cat "\${option#*file=}" >> image ;;
    esac; done
    mv image "$out"`,
  };
  mkdirSync(join(folder, 'bin'), { recursive: true });
  for (const [name, script] of Object.entries(programs)) {
    const path = join(folder, 'bin', name);
    writeFileSync(path, `#!/bin/sh\n${script}\n`, { mode: 0o755 });
    utimesSync(path, 1_500_000_000, 1_500_000_000);
  }
}

for (const [generator, tool] of [
  ['Unix Makefiles', 'make'],
  ['Ninja', 'ninja'],
] as const) {
  const has = run('sh', ['-c', `command -v ${tool}`]).status === 0;
  t.test(`another toolkit behind the same path: ${generator}`, { skip: !has && `no ${tool} here` }, async (t) => {
    const root = t.testdir({
      'CMakeLists.txt': `cmake_minimum_required(VERSION 3.18)
        project(kernels LANGUAGES CXX)
        add_subdirectory("${resolve('csrc', 'cuda')}" cuda)`,
    });
    const [link, image] = [join(root, 'cuda'), join(root, 'build', 'cuda', 'kernels.fatbin')];
    /** As the install script does; gives what is said and what is in the image. */
    const build = (...options: string[]) => {
      const where = ['-S', root, '-B', join(root, 'build'), '-G', generator];
      const usual = ['-DKOTODAMA_NVCC=AUTO', '-DKOTODAMA_CUDA_ARCHITECTURES='];
      const configured = run('cmake', [...where, ...usual, ...options], { CUDA_PATH: link });
      const built = run('cmake', ['--build', join(root, 'build'), '--target', 'kotodama_kernels']);
      if (configured.status !== 0 || built.status !== 0) throw new Error(configured.output + built.output);
      return { said: configured.output, image: readFileSync(image, 'utf8') };
    };
    const imageOf = (version: string) => `fatbinary ${version}\n${`nvcc ${version}\n`.repeat(3)}`;

    makeToolkit(join(root, 'cuda-12.4'), '12.4');
    makeToolkit(join(root, 'cuda-13.0'), '13.0');
    symlinkSync('cuda-12.4', link);
    const first = build();
    t.match(first.said, 'nvcc 12.4.1: PTX 80, machine code 80');
    t.equal(first.image, imageOf('12.4'));
    const { mtimeMs } = statSync(image);
    t.equal(build().image, first.image);
    t.equal(statSync(image).mtimeMs, mtimeMs, 'the same toolkit has nothing to do');

    rmSync(join(root, 'cuda-12.4'), { recursive: true });
    rmSync(link);
    symlinkSync('cuda-13.0', link);
    const second = build();
    t.match(second.said, 'nvcc 13.0.1: PTX 80, machine code 80');
    t.equal(second.image, imageOf('13.0'));

    makeToolkit(join(root, 'mine'), '1.0');
    const mine = build(`-DKOTODAMA_FATBINARY=${join(root, 'mine', 'bin', 'fatbinary')}`);
    t.match(mine.image, /^fatbinary 1\.0\nnvcc 13\.0\n/);
  });
}
