import type { DownloadProgress, HubOptions } from '../hub/index.js';
import { LiveLine, type ProgressStream } from '../report/live-line.js';
import { showDownloads } from './download.js';

/** What is being loaded, in a terminal's last line, and the downloads that belong to it. */
export function showLoading(
  what: string,
  stream: ProgressStream = process.stderr,
): Required<Pick<HubOptions, 'onProgress'>> & Disposable {
  const line = new LiveLine(stream);
  const downloads = showDownloads(line);
  line.working(what);
  return {
    onProgress(progress: DownloadProgress) {
      downloads.onProgress?.(progress);
      if (progress.loadedBytes === progress.totalBytes) line.working(what);
    },
    [Symbol.dispose]: () => line.clear(),
  };
}
