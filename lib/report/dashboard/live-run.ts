import type { TrainEvent } from '../../train/events.js';
import type { NamedRun } from '../page-data.js';
import { namedRun } from '../report.js';
import { RunRecord } from '../run-record.js';

/** A run that pages follow: what is known of it, and the events that they have not seen. */
export class LiveRun {
  record = new RunRecord();
  /** When it was last heard of, in milliseconds since 1970. */
  heardAt = Date.now();
  /** The newest events, for pages that know all before them. */
  private fresh: TrainEvent[] = [];
  private anew = false;

  constructor(
    readonly id: string,
    readonly name: string,
  ) {}

  /** @param heardAt when the event happened, where that was not now. */
  add(event: TrainEvent, heardAt = Date.now()): void {
    this.heardAt = heardAt;
    this.record.add(event);
    // Histograms are for TensorBoard; no page shows them.
    if (!this.anew && event.type !== 'gradients') this.fresh.push(event);
  }

  /** Forgets everything: the run's past has changed. */
  reset(): void {
    this.record = new RunRecord();
    this.fresh = [];
    this.anew = true;
  }

  /** What pages must be told since the last call: events, the whole run, or nothing. */
  take(): { events: TrainEvent[] } | { run: NamedRun } | undefined {
    if (this.anew) {
      this.anew = false;
      return { run: this.whole() };
    }
    if (this.fresh.length === 0) return undefined;
    const events = this.fresh;
    this.fresh = [];
    return { events };
  }

  whole(): NamedRun {
    return { ...namedRun(this.id, this.name, this.record), quietSeconds: this.quietSeconds };
  }

  /** Seconds since it was last heard of: a run that was killed says nothing of it. */
  get quietSeconds(): number {
    return Math.max(0, (Date.now() - this.heardAt) / 1000);
  }
}
