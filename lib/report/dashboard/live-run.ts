import type { TrainEvent } from '../../train/events.js';
import type { NamedRun } from '../page-data.js';
import { namedRun } from '../report.js';
import { RunRecord } from '../run-record.js';

/** A run that pages follow: what is known of it, and the events that they have not seen. */
export class LiveRun {
  record = new RunRecord();
  /** The newest events, for pages that know all before them. */
  private fresh: TrainEvent[] = [];
  private anew = false;

  constructor(
    readonly id: string,
    readonly name: string,
  ) {}

  add(event: TrainEvent): void {
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
    return namedRun(this.id, this.name, this.record);
  }
}
