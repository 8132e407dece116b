import { native } from '../../dist/native.js';
import { buildSimulator } from '../gpu-sim/build.js';
import { configure, isReal } from './build.js';

/**
 * Lets the addon of this process find the tests' CUDA device, simulated or real, and gives the variables with which a
 * program that is started finds it too. Undefined where no nvcc is: then the addon has no kernels.
 */
export function useDevice(): Record<string, string> | undefined {
  if (!configure().hasKernels) return undefined;
  const env: Record<string, string> = isReal ? {} : { KOTODAMA_CUDA_DRIVER: buildSimulator() };
  // The driver is opened at its first use, which is below.
  Object.assign(process.env, env);
  const problem = native().cudaProblem();
  if (problem !== null) throw new Error(`the addon cannot use the CUDA device (npm run build:native?): ${problem}`);
  return env;
}

/** What a test file says where {@link useDevice} found nothing. */
export const noKernels = 'no nvcc here: the addon has no CUDA kernels to test';
