export { type ExplanationPageOptions, explanationPage } from './explanation.js';
export type { ProgressStream } from './live-line.js';
export { readMetrics } from './metrics.js';
export { Progress, type ProgressOptions } from './progress.js';
export { type RecordOptions, recorded } from './record.js';
