import { spawnSync } from 'node:child_process';
import { statSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { isAtLeast } from '../version.js';

const OLDEST = '11.8';
const REBUILD =
  '`npm rebuild kotodama --foreground-scripts` (in a clone: `KOTODAMA_INSTALL=force npm install --foreground-scripts`; ' +
  'with pnpm: `pnpm rebuild kotodama`)';

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
  const onPath = (env.PATH ?? '').split(delimiter).filter((folder) => folder !== '');
  const folders = [...roots, ...onPath, '/usr/local/cuda', '/opt/cuda'] as string[];
  // CMake looks into the suffixed folder first, for all of them.
  const path = folders.flatMap((folder) => [join(folder, 'bin', 'nvcc'), join(folder, 'nvcc')]).find(isFile);
  if (path === undefined) return null;
  const { stdout } = spawnSync(path, ['--version'], { encoding: 'utf8', timeout: 10_000 });
  return { version: /\bV(\d+(?:\.\d+)+)/.exec(stdout ?? '')?.[1] ?? null, path };
}

/** How an addon without kernels gets them, with the toolkit that a build would take now. */
export function howToBuild(toolkit: CudaToolkit | null): string {
  if (process.platform === 'darwin') return 'macOS has no CUDA';
  if (toolkit === null) {
    return `install NVIDIA's CUDA toolkit (${OLDEST} or later) so that nvcc is on the PATH, or set CUDA_PATH; then ${REBUILD}`;
  }
  const { version, path } = toolkit;
  if (version !== null && isAtLeast(version, OLDEST)) return `build them with the toolkit that is here: ${REBUILD}`;
  const fault = version === null ? 'does not work' : 'is too old';
  return `${path} ${fault}: install NVIDIA's CUDA toolkit (${OLDEST} or later) and set CUDA_PATH to its folder; then ${REBUILD}`;
}

function isFile(path: string): boolean {
  try {
    return statSync(path).isFile();
  } catch {
    return false;
  }
}
