/** What is done about a spike: nothing, a warning, or a warning and no update. */
export const SPIKE_POLICIES = ['off', 'log', 'skip'] as const;

export type SpikePolicy = (typeof SPIKE_POLICIES)[number];

/** The last values, the newest at the end. */
export interface SpikeWindows {
  loss: number[];
  gradNorm: number[];
}

/** A value that is too high. */
export interface Spike {
  what: 'loss' | 'gradient norm';
  value: number;
  /** Of the values before it. */
  mean: number;
  /** Standard deviations above the mean. */
  sigma: number;
}

/**
 * Finds losses and gradient norms that are far above the last ones: z = (x - mean) / std over a window of the steps before,
 * as OLMo 2's optimizer does (Walsh et al. 2024; there 6 standard deviations over 128 steps). Nothing is a spike before half
 * of the window is filled, nor when all of its values are equal.
 */
export class SpikeGuard {
  private readonly loss: number[];
  private readonly gradNorm: number[];

  /**
   * @param sigma standard deviations that are too many.
   * @param size steps in the window.
   * @param saved windows of a checkpoint.
   */
  constructor(
    private readonly sigma: number,
    private readonly size: number,
    saved: SpikeWindows = { loss: [], gradNorm: [] },
  ) {
    this.loss = saved.loss.slice(-size);
    this.gradNorm = saved.gradNorm.slice(-size);
  }

  /** The loss as a spike, if it is one. */
  judgeLoss(value: number): Spike | undefined {
    return this.judge('loss', this.loss, value);
  }

  /** The gradient norm as a spike, if it is one. */
  judgeGradNorm(value: number): Spike | undefined {
    return this.judge('gradient norm', this.gradNorm, value);
  }

  /**
   * Takes the values of a step into the windows, whether it was applied or not: so a level that lasts is no spike for long.
   * A spike counts as the highest value that would have been none; as it is, it would hide the ones after it.
   */
  add(loss: number, gradNorm?: number): void {
    this.push(this.loss, loss);
    if (gradNorm !== undefined) this.push(this.gradNorm, gradNorm);
  }

  windows(): SpikeWindows {
    return { loss: [...this.loss], gradNorm: [...this.gradNorm] };
  }

  private judge(what: Spike['what'], window: readonly number[], value: number): Spike | undefined {
    const { mean, std } = this.statistics(window);
    if (!(std > 0) || !(value > mean + this.sigma * std)) return undefined;
    return { what, value, mean, sigma: (value - mean) / std };
  }

  private push(window: number[], value: number): void {
    const { mean, std } = this.statistics(window);
    window.push(std > 0 ? Math.min(value, mean + this.sigma * std) : value);
    if (window.length > this.size) window.shift();
  }

  private statistics(window: readonly number[]): { mean: number; std: number } {
    if (window.length < this.size / 2) return { mean: Number.NaN, std: Number.NaN };
    const mean = window.reduce((sum, value) => sum + value, 0) / window.length;
    const squares = window.reduce((sum, value) => sum + (value - mean) ** 2, 0);
    return { mean, std: Math.sqrt(squares / window.length) };
  }
}
