import { availableParallelism, release, totalmem } from 'node:os';
import { messageOf } from '../errors.js';
import { type NativeDevice, native } from '../native.js';
import { bytes } from '../report/format.js';
import { OptionReader } from '../validate.js';
import { packageVersion } from '../version.js';
import type { Command } from './command.js';
import { DOCTOR_OPTIONS, flagOf, parseFlags, readOptions } from './options.js';

/** What a report of a fault should hold. */
interface Findings {
  kotodama: string;
  node: string;
  system: string;
  cores: number;
  memoryBytes: number;
  /** Why the addon cannot be loaded, and what to do; null when it can. */
  addonProblem: string | null;
  devices: NativeDevice[];
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
    const { json } = readOptions(reader, DOCTOR_OPTIONS) as { json: boolean };
    reader.finish('The options of kotodama doctor are not valid');
    const findings = examine();
    process.stdout.write(json ? `${JSON.stringify(findings)}\n` : show(findings));
    return findings.addonProblem === null ? 0 : 1;
  },
};

function examine(): Findings {
  const findings: Findings = {
    kotodama: packageVersion(),
    node: process.version,
    system: `${process.platform} ${release()} ${process.arch}`,
    cores: availableParallelism(),
    memoryBytes: totalmem(),
    addonProblem: null,
    devices: [],
    cudaProblem: null,
  };
  try {
    const addon = native();
    return { ...findings, devices: addon.devices(), cudaProblem: addon.cudaProblem() };
  } catch (error) {
    return { ...findings, addonProblem: messageOf(error) };
  }
}

function show(findings: Findings): string {
  const { addonProblem, cudaProblem, devices } = findings;
  const lines = [
    `kotodama  ${findings.kotodama}`,
    `node      ${findings.node}`,
    `system    ${findings.system}, ${findings.cores} cores, ${bytes(findings.memoryBytes)} memory`,
    `addon     ${addonProblem ?? 'works'}`,
    ...devices.map(
      ({ device, name, detail, freeBytes, totalBytes }) =>
        `${device.padEnd(10)}${[name, detail].filter(Boolean).join(', ')}, ${bytes(freeBytes)} of ${bytes(totalBytes)} free`,
    ),
  ];
  if (addonProblem === null && cudaProblem !== null) lines.push(`cuda      not used: ${cudaProblem}`);
  return `${lines.join('\n')}\n`;
}
