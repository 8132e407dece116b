// `kotodama doctor` with a CUDA device: what is there, what is missing, what to do.
import t from 'tap';
import { kotodama, workplace } from '../cli/program.js';
import { isReal } from './build.js';
import { noKernels, useDevice } from './device.js';

const device = useDevice();

if (device === undefined) {
  t.plan(0, noKernels);
} else {
  const cwd = workplace(t);
  const doctor = (env: Record<string, string> = {}, ...words: string[]) =>
    kotodama(['doctor', ...words], { cwd, env: { ...device, ...env } });

  t.test('a device that works', async (t) => {
    const [shown, json] = await Promise.all([doctor(), doctor({}, '--json')]);
    t.equal(shown.code, 0, shown.stderr);
    t.match(shown.stdout, /^kernels {3}nvcc \d+\.\d+\.\d+: PTX 80/m);
    t.match(shown.stdout, /^toolkit {3}(nvcc \d+\.\d+\.\d+, \/.+nvcc|none found)$/m);
    t.match(shown.stdout, /^driver {4}CUDA \d+\.\d+$/m);
    t.match(shown.stdout, /^cpu {7}.* free, computes$/m);
    t.match(shown.stdout, /^cuda:0 {4}.+, compute capability \d+\.\d, .+ of .+ free, computes$/m);
    const findings = JSON.parse(json.stdout);
    t.match(findings, {
      cuda: { kernels: /^nvcc/, driver: /^\d+\.\d+$/, driverProblem: null },
      cudaProblem: null,
    });
    t.match(findings.devices, [
      { device: 'cpu', problem: null },
      { device: 'cuda:0', totalBytes: Number, freeBytes: Number, problem: null },
    ]);
  });

  t.test('no driver', async (t) => {
    const { code, stdout } = await doctor({ KOTODAMA_CUDA_DRIVER: '/no/such/driver.so' });
    t.equal(code, 1, 'it was asked for');
    t.match(stdout, /^driver {4}the CUDA driver library \/no\/such\/driver\.so cannot be opened .*; KOTODAMA_CUDA/m);
    t.match(stdout, /^cuda {6}not used$/m);
    t.notMatch(stdout, /^cuda:/m);
  });

  t.test('the toolkit is looked for as a build looks for it', async (t) => {
    const { stdout } = await doctor({ CUDA_PATH: '/no/such/toolkit' }, '--json');
    const { cudaToolkit } = JSON.parse(stdout);
    t.ok(cudaToolkit === null || /^\/.*\/nvcc$/.test(cudaToolkit.path), stdout);
  });

  if (!isReal) {
    t.test('devices that do not work', async (t) => {
      const [old, ptx, fault, full, taken, none] = await Promise.all([
        doctor({ KOTODAMA_SIM_CAPABILITY: '7.5' }),
        doctor({ KOTODAMA_SIM_DRIVER_VERSION: '11040', KOTODAMA_SIM_REPORT: '/dev/null' }),
        doctor({ KOTODAMA_SIM_FAIL_LAUNCH: '1', KOTODAMA_SIM_REPORT: '/dev/null' }),
        doctor({ KOTODAMA_SIM_MEMORY: '1M' }),
        doctor({ KOTODAMA_SIM_FAIL_CONTEXT: '46' }),
        doctor({ KOTODAMA_SIM_DEVICES: '0' }),
      ]);
      t.match(
        old.stdout,
        /^cuda:0 .*, compute capability 7\.5, [\d.]+ GiB, does not work: .*compute capability 7\.5, the kernels need 8\.0/m,
      );
      t.match(
        ptx.stdout,
        /^cuda:0 .* free, does not work: the driver \(CUDA 11\.4\) takes neither the machine code nor/m,
      );
      t.match(fault.stdout, /^cuda:0 .*, does not work: CUDA reports CUDA_ERROR_ILLEGAL_ADDRESS .* at \w+/m);
      t.match(
        full.stdout,
        /^cuda:0 .*, does not work: .*out of memory: needs \d+ bytes, \d+ of \d+ are free; end other programs/m,
      );
      t.match(
        taken.stdout,
        /^cuda:0 .*, does not work: CUDA reports CUDA_ERROR_DEVICE_UNAVAILABLE .*; the GPU's compute mode .*'cpu'$/m,
      );
      t.same(
        [old, fault, full].map(({ code }) => code),
        [0, 1, 1],
      );
      t.equal(none.code, 1, 'this driver was asked for');
      t.match(none.stdout, /^driver .*no CUDA device that can be used$/m);
    });

    t.test('several devices', async (t) => {
      const { stdout } = await doctor({ KOTODAMA_SIM_DEVICES: '3' });
      t.same(stdout.match(/^cuda:\d .*, computes$/gm)?.length, 3);
    });
  }
}
