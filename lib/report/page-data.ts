import type { TrainEvent } from '../train/events.js';
import type { RunState } from './run-record.js';

/** A run with what tells it apart from others. */
export interface NamedRun {
  id: string;
  name: string;
  state: RunState;
  /** Seconds since its last event, where the page follows it. */
  quietSeconds?: number;
}

/** What a page is made with. */
export interface PageData {
  /** Whether the page follows runs in progress, over Server-Sent Events. */
  live: boolean;
  /** Whether its buttons reach the run. */
  control: boolean;
  runs: NamedRun[];
}

/** What the dashboard's server sends to a page. */
export type LiveMessage =
  /** All there is: at the beginning, and after a connection was lost or too slow. */
  | { type: 'all'; control: boolean; runs: NamedRun[] }
  /** A run that is new or has changed its past. */
  | { type: 'run'; run: NamedRun }
  | { type: 'events'; id: string; events: TrainEvent[]; quietSeconds: number };
