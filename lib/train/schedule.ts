/** Shapes of the learning rate over a run. */
export const SCHEDULES = ['cosine', 'linear', 'constant', 'wsd', 'inverse-sqrt'] as const;

/** Shape of the learning rate over a run: after the warmup, how it falls. */
export type ScheduleName = (typeof SCHEDULES)[number];

/** A learning-rate schedule, all numbers known. */
export interface Schedule {
  name: ScheduleName;
  /** Peak learning rate. */
  lr: number;
  /** Where a decaying schedule ends. */
  minLr: number;
  /** W */
  warmupSteps: number;
  /** N, the steps of the whole run; `constant` and `inverse-sqrt` do without. */
  totalSteps: number | null;
}

/** The part of a run that `wsd` spends on its decay (Hägele et al. 2024, section 3: about 20 % is enough). */
export const WSD_DECAY_SHARE = 0.2;

/** The time scale of `inverse-sqrt` without a warmup, as in Transformers' get_inverse_sqrt_schedule. */
export const INVERSE_SQRT_SCALE = 10_000;

/** True when the schedule must know how long the run is. */
export function needsTotalSteps(name: ScheduleName): boolean {
  return name !== 'constant' && name !== 'inverse-sqrt';
}

/**
 * The learning rate of step s, counted from 0.
 *
 * Warmup, s < W: `lr (s + 1) / (W + 1)`: the first step already learns, and the peak is reached at s = W.
 *
 * After it, with p = (s - W) / (N - W), at most 1:
 * - `cosine`: `minLr + (lr - minLr) (1 + cos(pi p)) / 2`, PyTorch's CosineAnnealingLR with T_max = N - W;
 * - `linear`: `minLr + (lr - minLr) (1 - p)`, PyTorch's LinearLR from 1 to minLr / lr;
 * - `constant`: `lr`;
 * - `wsd` (warmup, stable, decay): `lr` until D = 0.2 N steps are left, then linear to `minLr` with
 *   p = (s - (N - D)) / D;
 * - `inverse-sqrt`: `lr sqrt(T / (T + s - W))`, never below `minLr`, with T = W, or 10,000 without a warmup (Vaswani et al.
 *   2017, section 5.3).
 */
export function learningRateAt(schedule: Schedule, s: number): number {
  const { name, lr, minLr, warmupSteps, totalSteps } = schedule;
  if (s < warmupSteps) return (lr * (s + 1)) / (warmupSteps + 1);
  if (name === 'inverse-sqrt') {
    const scale = warmupSteps > 0 ? warmupSteps : INVERSE_SQRT_SCALE;
    return Math.max(minLr, lr * Math.sqrt(scale / (scale + s - warmupSteps)));
  }
  if (name === 'constant' || totalSteps === null) return lr;
  const start = name === 'wsd' ? Math.max(warmupSteps, Math.ceil(totalSteps * (1 - WSD_DECAY_SHARE))) : warmupSteps;
  if (s < start) return lr;
  const progress = Math.min(1, (s - start) / Math.max(1, totalSteps - start));
  const remaining = name === 'cosine' ? (1 + Math.cos(Math.PI * progress)) / 2 : 1 - progress;
  return minLr + (lr - minLr) * remaining;
}
