import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { delimiter, join } from 'node:path';

/** NVIDIA's compiler, which builds the kernels. */
export interface CudaToolkit {
  /** e.g. `13.0.88`; null when the compiler does not say it. */
  version: string | null;
  /** Of nvcc. */
  path: string;
}

/** The toolkit that a build would take now, looked for where csrc/cuda/CMakeLists.txt looks; null without one. */
export function findCudaToolkit(env: NodeJS.ProcessEnv = process.env): CudaToolkit | null {
  const roots = [env.CUDA_PATH, env.CUDA_HOME, env.CUDAToolkit_ROOT].filter(
    (root) => root !== undefined && root !== '',
  );
  const folders = [
    ...roots.map((root) => join(root as string, 'bin')),
    ...(env.PATH ?? '').split(delimiter).filter((folder) => folder !== ''),
    '/usr/local/cuda/bin',
    '/opt/cuda/bin',
  ];
  const path = folders.map((folder) => join(folder, 'nvcc')).find((file) => existsSync(file));
  if (path === undefined) return null;
  const { stdout } = spawnSync(path, ['--version'], { encoding: 'utf8', timeout: 10_000 });
  return { version: /\bV(\d+(?:\.\d+)+)/.exec(stdout ?? '')?.[1] ?? null, path };
}
