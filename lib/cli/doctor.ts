import { availableParallelism, release, totalmem } from 'node:os';
import { messageOf } from '../errors.js';
import { type ListedDevice, type NativeAddon, type NativeCuda, native } from '../native.js';
import { bytes } from '../report/format.js';
import { OptionReader } from '../validate.js';
import { nodeProblem, packageVersion } from '../version.js';
import type { Command } from './command.js';
import { type CudaToolkit, findCudaToolkit, howToBuild } from './cuda-toolkit.js';
import { DOCTOR_OPTIONS, flagOf, parseFlags, readOptions } from './options.js';

interface ExaminedDevice extends ListedDevice {
  /** Whether it could not even compute a little, or not rightly; `problem` says what happened. */
  failed: boolean;
}

/** What a report of a fault should hold. */
interface Findings {
  kotodama: string;
  node: string;
  /** Why this Node cannot run the package; null when it can. */
  nodeProblem: string | null;
  system: string;
  cores: number;
  memoryBytes: number;
  /** Why the addon cannot be loaded, and what to do; null when it can. */
  addonProblem: string | null;
  devices: ExaminedDevice[];
  /** Null when the addon cannot be loaded. */
  cuda: NativeCuda | null;
  /** Null where no toolkit is found. Only building the kernels needs it. */
  cudaToolkit: CudaToolkit | null;
  /** Why CUDA cannot be used, and what to do; null when it can. */
  cudaProblem: string | null;
}

export const doctor: Command = {
  summary: 'shows what is installed, which devices work, and why one does not',
  usage: 'doctor [--json]',
  options: DOCTOR_OPTIONS,
  examples: [],
  async run(words) {
    const reader = new OptionReader(parseFlags(words, DOCTOR_OPTIONS), flagOf);
    const { json } = readOptions(reader, DOCTOR_OPTIONS, 'doctor') as { json: boolean };
    reader.finish('The options of kotodama doctor are not valid');
    const findings = await examine();
    process.stdout.write(json ? `${JSON.stringify(findings)}\n` : show(findings));
    return isSound(findings) ? 0 : 1;
  },
};

async function examine(): Promise<Findings> {
  const findings: Findings = {
    kotodama: packageVersion(),
    node: process.version,
    nodeProblem: nodeProblem(process.version),
    system: `${process.platform} ${release()} ${process.arch}`,
    cores: availableParallelism(),
    memoryBytes: totalmem(),
    addonProblem: null,
    devices: [],
    cuda: null,
    cudaToolkit: findCudaToolkit(),
    cudaProblem: null,
  };
  try {
    const addon = native();
    const devices: ExaminedDevice[] = [];
    for (const name of await addon.deviceNames()) {
      const device = await addon.examineDevice(name);
      const failure = device.problem === null ? await check(addon, device.device) : null;
      devices.push({ ...device, problem: oneLine(device.problem ?? failure), failed: failure !== null });
    }
    return { ...findings, devices, cuda: addon.cuda(), cudaProblem: addon.cudaProblem() };
  } catch (error) {
    return { ...findings, addonProblem: messageOf(error) };
  }
}

/** Whether all works that was asked for. A GPU that is too old is only left out. */
function isSound({ nodeProblem, addonProblem, cuda, devices }: Findings): boolean {
  const chosen = process.env.KOTODAMA_CUDA_DRIVER ? cuda?.driverProblem : null;
  return nodeProblem === null && addonProblem === null && !chosen && devices.every(({ failed }) => !failed);
}

async function check(addon: NativeAddon, device: string): Promise<string | null> {
  try {
    await addon.checkDevice(device);
    return null;
  } catch (error) {
    return messageOf(error);
  }
}

function oneLine(problem: string | null): string | null {
  return problem?.replaceAll(/\n\s*hint: /g, '; ') ?? null;
}

function show(findings: Findings): string {
  const { addonProblem, cuda, cudaProblem, cudaToolkit, devices } = findings;
  const lines = [
    ['kotodama', findings.kotodama],
    ['node', [findings.node, findings.nodeProblem].filter(Boolean).join(', which does not fit: ')],
    ['system', `${findings.system}, ${findings.cores} cores, ${bytes(findings.memoryBytes)} memory`],
    ['addon', addonProblem ?? 'works'],
  ];
  if (cuda !== null) {
    const { kernels, driver, driverProblem } = cuda;
    lines.push(['kernels', kernels ?? `none in this build; ${howToBuild(cudaToolkit)}`]);
    lines.push(['toolkit', cudaToolkit === null ? 'none found' : nameOf(cudaToolkit)]);
    lines.push(['driver', driverProblem ?? `CUDA ${driver}`]);
    // What the lines above say already needs no second one.
    const isSaid = kernels === null || driverProblem !== null;
    if (cudaProblem !== null) lines.push(['cuda', isSaid ? 'not used' : `not used: ${cudaProblem}`]);
  }
  for (const { device, name, detail, freeBytes, totalBytes, problem } of devices) {
    // Of a device that cannot be used, what is free is often not known.
    const memory = freeBytes > 0 ? `${bytes(freeBytes)} of ${bytes(totalBytes)} free` : bytes(totalBytes);
    const works = problem === null ? 'computes' : `does not work: ${problem}`;
    lines.push([device, [name, detail, memory, works].filter(Boolean).join(', ')]);
  }
  return lines.map(([name, text]) => `${name?.padEnd(10)}${text}\n`).join('');
}

function nameOf({ version, path }: CudaToolkit): string {
  return version === null ? `${path}, which does not tell its version` : `nvcc ${version}, ${path}`;
}
