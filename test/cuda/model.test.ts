import t from 'tap';
import { buildSimulator } from '../gpu-sim/build.js';
import { buildPrograms, configure, isReal } from './build.js';
import { relay } from './relay.js';

// The whole model on the CUDA device, simulated or real, against the float64 reference.

if (configure().hasKernels) {
  buildPrograms();
  relay(t, 'model_test', isReal ? {} : { KOTODAMA_CUDA_DRIVER: buildSimulator() });
} else {
  t.plan(0, 'no nvcc here: there are no CUDA kernels to test');
}
