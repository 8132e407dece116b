// Where doctor looks for nvcc, against what CMake finds with the words of the build.
import { spawnSync } from 'node:child_process';
import { chmodSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { delimiter, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { findCudaToolkit, howToBuild } from '../../lib/cli/cuda-toolkit.js';

const BUILD = fileURLToPath(new URL('../../csrc/cuda/CMakeLists.txt', import.meta.url));
const cmake = (process.env.PATH ?? '')
  .split(delimiter)
  .map((folder) => join(folder, 'cmake'))
  .find((file) => existsSync(file));

/** The nvcc that a build takes; null without one. */
function foundByCMake(folder: string, env: NodeJS.ProcessEnv): string | null {
  const words = /find_program\(KOTODAMA_NVCC[^)]*\)/.exec(readFileSync(BUILD, 'utf8'))?.[0];
  const script = join(folder, 'find.cmake');
  writeFileSync(script, `cmake_minimum_required(VERSION 3.18)\n${words}\nmessage("found \${KOTODAMA_NVCC}")\n`);
  const { stderr } = spawnSync(cmake as string, ['-P', script], { env, encoding: 'utf8' });
  const path = /^found (.*)$/m.exec(stderr)?.[1] ?? stderr;
  return path.endsWith('NOTFOUND') ? null : path;
}

t.test('the nvcc that a build would take', { skip: cmake === undefined && 'no CMake' }, async (t) => {
  const folder = t.testdir({ directory: { bin: { nvcc: {} } }, empty: {} });
  const nvcc = (path: string, version: string) => {
    const file = join(folder, path);
    mkdirSync(dirname(file), { recursive: true });
    writeFileSync(file, `#!/bin/sh\necho Cuda compilation tools, release ${version}, V${version}.99\n`);
    chmodSync(file, 0o755);
  };
  nvcc('whole/bin/nvcc', '12.4');
  nvcc('flat/nvcc', '12.5');
  nvcc('both/bin/nvcc', '13.0');
  nvcc('both/nvcc', '13.1');
  const at = (...names: string[]) => names.map((name) => join(folder, name)).join(delimiter);
  const machines: [NodeJS.ProcessEnv, string | null][] = [
    [{ CUDA_PATH: at('whole') }, '12.4.99'],
    [{ CUDA_PATH: at('flat') }, '12.5.99'],
    [{ CUDA_PATH: at('both') }, '13.0.99'],
    [{ CUDA_PATH: at('directory'), CUDA_HOME: at('flat'), PATH: at('whole/bin') }, '12.5.99'],
    [{ CUDA_PATH: at('empty'), CUDAToolkit_ROOT: at('nowhere'), PATH: at('directory/bin', 'whole/bin') }, '12.4.99'],
    [{ PATH: at('empty', 'whole', 'flat') }, '12.4.99'],
  ];
  for (const [env, version] of machines) {
    const found = findCudaToolkit({ PATH: at('empty'), ...env });
    t.equal(found?.path, foundByCMake(folder, { PATH: at('empty'), ...env }), JSON.stringify(env));
    t.equal(found?.version, version);
  }
});

t.test('what to do for kernels', { skip: process.platform === 'darwin' && 'no CUDA' }, async (t) => {
  const path = '/opt/cuda/bin/nvcc';
  t.match(howToBuild(null), /^install NVIDIA's CUDA toolkit \(11\.8 or later\)/);
  for (const version of ['11.8.89', '12.0.1', '13.1.5']) {
    t.match(howToBuild({ version, path }), /^build them with the toolkit that is here: `npm rebuild/, version);
  }
  for (const version of ['11.0.221', '11.7.99', '9.2']) {
    t.match(
      howToBuild({ version, path }),
      `${path} is too old: install NVIDIA's CUDA toolkit (11.8 or later)`,
      version,
    );
  }
  t.match(howToBuild({ version: null, path }), `${path} does not work: install NVIDIA's CUDA toolkit (11.8 or later)`);
});
