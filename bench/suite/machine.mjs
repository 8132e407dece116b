// @ts-check

import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { cpus, loadavg, totalmem } from 'node:os';

/** @param {string} path */
function textOf(path) {
  try {
    return readFileSync(path, 'utf8').trim();
  } catch {
    return undefined;
  }
}

/** How many processes want a core, as `uptime` shows it for the last minute: our own are among them. */
export const load = () => loadavg()[0] ?? Number.NaN;

/** What figures can be compared with only on a machine like it. */
export function describeMachine() {
  const flags = /^flags\s*:\s*(.*)$/m.exec(textOf('/proc/cpuinfo') ?? '')?.[1]?.split(' ') ?? [];
  const caches = [0, 1, 2, 3]
    .map((index) => `/sys/devices/system/cpu/cpu0/cache/index${index}/`)
    .map((folder) => ['level', 'type', 'size'].map((name) => textOf(folder + name) ?? '').join(' '));
  const compiler = spawnSync('c++', ['--version'], { encoding: 'utf8' }).stdout?.split('\n')[0];
  return {
    date: new Date().toISOString().slice(0, 10),
    processor: cpus()[0]?.model ?? 'unknown',
    cores: cpus().length,
    vectors: flags.filter((flag) => /^(avx2|fma|avx512f|avx512_bf16|amx_bf16)$/.test(flag)),
    caches: caches.filter((text) => text.trim() !== ''),
    memoryBytes: totalmem(),
    hugePages: textOf('/sys/kernel/mm/transparent_hugepage/enabled'),
    node: process.version,
    compiler,
    load: load(),
  };
}
