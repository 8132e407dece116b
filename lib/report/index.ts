export { readMetrics } from './metrics.js';
export { Progress, type ProgressOptions, type ProgressStream } from './progress.js';
export { recorded } from './record.js';
