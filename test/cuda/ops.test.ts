import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { buildSimulator } from '../gpu-sim/build.js';
import { buildPrograms, configure, isReal, program, run } from './build.js';
import { relay } from './relay.js';
import { readTrace } from './trace.js';

// The CUDA backend on the simulated device, or on the driver that KOTODAMA_TEST_DEVICE=real leaves to be found: every
// operation against the float64 reference, and the host side's behaviour when something is missing or breaks.

const { hasKernels } = configure();
buildPrograms();

if (!hasKernels) {
  t.pass('operations against float64', { skip: 'no nvcc here: only what a build without kernels says is tested' });
  const { output } = run(program('backend_test'), ['problem']);
  t.match(output, /no CUDA kernels.*install the CUDA toolkit/);
  t.match(run(program('backend_test'), ['open']).output, /^ERR_DEVICE: CUDA cannot be used/);
} else {
  const env: Record<string, string> = isReal ? {} : { KOTODAMA_CUDA_DRIVER: buildSimulator() };

  t.test('operations against float64', async (t) => relay(t, 'ops_test', env));

  if (isReal) {
    t.test('large tiles', async (t) => {
      for (const size of ['3080x3080x200', '2048x1920x200']) relay(t, 'ops_test', env, [size]);
    });
  }

  t.test('memory, recordings, failures', async (t) => relay(t, 'backend_test', env));

  t.test('the driver is missing or none', async (t) => {
    const problem = (driver: string) => run(program('backend_test'), ['problem'], { KOTODAMA_CUDA_DRIVER: driver });
    t.match(problem('/no/such/library.so').output, /\/no\/such\/library\.so cannot be opened/);
    t.match(problem('libm.so.6').output, /not a CUDA driver.*cuInit/);
    t.match(run(program('backend_test'), ['open'], { KOTODAMA_CUDA_DRIVER: 'libm.so.6' }).output, /^ERR_DEVICE/);
  });

  t.test('the process ends well without dispose', async (t) => {
    t.strictSame(run(program('backend_test'), ['open'], env), { status: 0, output: 'used\n' });
  });

  if (!isReal) {
    t.test('GPUs with less and with more shared memory', async (t) => {
      for (const capability of ['8.0', '8.6', '9.0', '12.0']) {
        const device = { ...env, KOTODAMA_SIM_CAPABILITY: capability };
        // The operations that fit their blocks to it.
        for (const operation of ['layernorm 5x', 'cross-entropy', 'embedding'])
          relay(t, 'ops_test', device, [operation]);
      }
    });

    t.test('large tiles, which devices with few multiprocessors take for small products', async (t) => {
      const file = join(t.testdir(), 'counters.txt');
      const seen = new Set<string>();
      for (const [capability, multiprocessors, size] of [
        ['8.0', '2', '968x952x200'],
        ['8.6', '32', '968x952x200'],
        ['8.6', '4', '264x776x200'],
        ['8.0', '12', '264x776x200'],
        ['8.6', '1', '97x200'],
        ['8.0', '5', '248x504x3000'], // wide tiles
        ['8.6', '8', '248x504x3000'], // wide tiles, K in parts
      ] as const) {
        const device = { KOTODAMA_SIM_CAPABILITY: capability, KOTODAMA_SIM_MULTIPROCESSORS: multiprocessors };
        relay(t, 'ops_test', { ...env, ...device, KOTODAMA_SIM_COUNTERS: file }, [size]);
        const counters = readFileSync(file, 'utf8');
        // The kernel's loop that sums the columns of b is one of two.
        const loop = counters.includes('sum_rows') ? 'with sums' : 'alone';
        for (const [name] of counters.matchAll(/gemm_bf16_\w+/g)) seen.add(name).add(`${name} ${loop}`);
      }
      for (const tile of ['128x128', '128x256']) {
        for (const kernel of [`nn_${tile}`, `nt_${tile}`, `tn_${tile} with sums`, `tn_${tile} alone`]) {
          t.ok(seen.has(`gemm_bf16_${kernel}`), `${kernel} ran`);
        }
      }
    });

    t.test('memory is freed after what the stream does with it', async (t) => {
      const file = join(t.testdir(), 'calls.txt');
      run(program('ops_test'), ['elementwise 3'], { ...env, KOTODAMA_SIM_TRACE: file });
      const calls = readTrace(file);
      const streamsOf = (found: typeof calls) => new Set(found.map(({ name, stream }) => `${name} ${stream}`));
      const [launch] = streamsOf(calls.filter(({ name }) => name === 'cuLaunchKernel'));
      // Calls that come right before a free. At the end all that is left is freed, after the other streams.
      const before = calls
        .filter(({ name }, i) => calls[i + 1]?.name === 'cuMemFree' && name !== 'cuMemFree')
        .slice(0, -1);
      t.ok(before.length > 0);
      t.same(streamsOf(before), new Set([launch?.replace('cuLaunchKernel', 'cuStreamSynchronize')]));
    });

    t.test('no device, or a device or driver that is too old', async (t) => {
      const open = (name: string, value: string) => run(program('backend_test'), ['open'], { ...env, [name]: value });
      t.match(open('KOTODAMA_SIM_DEVICES', '0').output, /^ERR_DEVICE.*no CUDA device/);
      t.match(open('KOTODAMA_SIM_CAPABILITY', '7.5').output, /^ERR_DEVICE.*compute capability 7\.5.*8\.0/);
      t.match(
        open('KOTODAMA_SIM_DRIVER_VERSION', '10020').output,
        /^ERR_DEVICE.*knows CUDA 10\.2, expected 11\.4 or later/,
      );
      t.match(
        open('KOTODAMA_SIM_DRIVER_VERSION', '11040').output,
        /^ERR_DEVICE: the driver \(CUDA 11\.4\) takes neither/m,
      );
    });

    t.test('a driver that does not start says why and what to do', async (t) => {
      const problem = (error: string, visible: Record<string, string> = {}) =>
        run(program('backend_test'), ['problem'], { ...env, KOTODAMA_SIM_FAIL_INIT: error, ...visible }).output;
      t.match(problem('802'), /does not start: CUDA_ERROR_SYSTEM_NOT_READY \(.+\); .*fabric manager/);
      t.match(problem('803'), /does not start: CUDA_ERROR_SYSTEM_DRIVER_MISMATCH \(.+\); .*restart the computer/);
      t.match(problem('804'), /does not start: CUDA_ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE \(.+\); .*installed driver/);
      t.match(problem('999'), /does not start: CUDA_ERROR_UNKNOWN \(.+\); .*nvidia_uvm .*nvidia-modprobe .*restart/);
      t.match(problem('1'), /does not start: CUDA_ERROR_INVALID_VALUE \([^;]+\)\n/);
      const variable = (visible: string) => problem('100', { CUDA_VISIBLE_DEVICES: visible });
      for (const visible of ['', '-1']) {
        const message = `CUDA_ERROR_NO_DEVICE \\(.+\\); CUDA_VISIBLE_DEVICES='${visible}' hides every device`;
        t.match(variable(visible), new RegExp(message));
      }
      // Whether the machine has any is not known.
      t.match(
        variable('0'),
        /\); no device that can be used is among those that CUDA_VISIBLE_DEVICES='0' names; nvidia/,
      );
    });

    t.test('a GPU that other programs fill or have for themselves, or that is lost', async (t) => {
      const open = (error: string) =>
        run(program('backend_test'), ['open'], { ...env, KOTODAMA_SIM_FAIL_CONTEXT: error }).output;
      t.match(open('2'), /^ERR_MEMORY: CUDA reports CUDA_ERROR_OUT_OF_MEMORY.*\n {2}hint: end other programs/);
      t.match(open('46'), /^ERR_DEVICE: CUDA reports CUDA_ERROR_DEVICE_UNAVAILABLE.*\n {2}hint: .*compute mode/);
      // Faults that come from without.
      for (const fault of ['226', '810']) t.match(open(fault), /^ERR_DEVICE: .*\n {2}hint: .*start it again/);
    });

    t.test('every allocation may fail', async (t) => {
      let failures = 0;
      for (let n = 1; ; n++) {
        const { status, output } = run(program('backend_test'), ['open'], { ...env, KOTODAMA_SIM_FAIL_ALLOC: `${n}` });
        t.equal(status, 0);
        if (output === 'used\n') break;
        t.match(output, /^ERR_MEMORY: .*needs \d+ bytes, \d+ of \d+ are free\n {2}hint: .*\n$/);
        if (++failures > 50) break;
      }
      t.ok(failures >= 2 && failures < 50, `${failures} allocations failed in turn`);
    });
  }
}
