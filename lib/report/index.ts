export { type ExplanationPageOptions, explanationPage } from './explanation.js';
export { readMetrics } from './metrics.js';
export { Progress, type ProgressOptions, type ProgressStream } from './progress.js';
export { recorded } from './record.js';
