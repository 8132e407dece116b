import type { StartEvent } from '../train/events.js';

/**
 * Floating-point operations of training on one token: 6 for each parameter that multiplies (the positions are only looked
 * up), and 12 L C T for the attention (Chowdhery et al. 2022, PaLM, appendix B). Undefined for a run whose model is unknown.
 */
export function flopsPerToken(start: StartEvent): number | undefined {
  const { nLayer, nEmbd, nPositions } = (start.configuration.model ?? {}) as Record<string, unknown>;
  if (typeof nLayer !== 'number' || typeof nEmbd !== 'number' || typeof nPositions !== 'number') return undefined;
  return 6 * (start.parameters - nPositions * nEmbd) + 12 * nLayer * nEmbd * start.blockSize;
}

/** Published dense peaks in TFLOP/s: bfloat16 with float32 accumulation on tensor cores, and float32. */
const PEAKS: readonly [name: RegExp, bf16: number | undefined, fp32: number][] = [
  [/H100 PCIe/, 756, 51],
  [/H[12]00 NVL/, 835, 60],
  [/H100|H200|GH200/, 989, 67],
  [/A100/, 312, 19.5],
  [/A10\b/, 125, 31.2],
  [/L40S/, 362, 91.6],
  [/L4\b/, 121, 30.3],
  [/RTX 4090/, 165, 82.6],
  [/RTX 3090/, 71, 35.6],
  [/V100/, undefined, 15.7],
  [/\bT4\b/, undefined, 8.1],
];

/** What the device can do at best, in FLOP/s: measured, or what its maker says. Undefined where neither is known. */
export function peakFlops({ device, precision, peakFlops: measured }: StartEvent): number | undefined {
  if (measured) return measured;
  if (!device.device.startsWith('cuda')) return undefined;
  const [, bf16, fp32] = PEAKS.find(([name]) => name.test(device.name)) ?? [];
  const peak = precision === 'bf16' ? bf16 : fp32;
  return peak === undefined ? undefined : peak * 1e12;
}

/**
 * Model FLOPs utilization (PaLM, appendix B): the part of the device's peak that training at this speed takes. Undefined
 * where the model or the peak is unknown.
 */
export function flopsUtilization(start: StartEvent, tokensPerSecond: number): number | undefined {
  const flops = flopsPerToken(start);
  const peak = peakFlops(start);
  return flops === undefined || peak === undefined ? undefined : (flops * tokensPerSecond) / peak;
}
