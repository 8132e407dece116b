import type { DownloadProgress, HubOptions } from '../hub/index.js';
import { bytes } from '../report/format.js';
import { LiveLine } from '../report/live-line.js';

/** Shows downloads where the progress goes: on a terminal a live line for each file, elsewhere a line when it is there. */
export function showDownloads(line = new LiveLine(process.stderr)): Pick<HubOptions, 'onProgress'> {
  let shown = '';
  const onProgress = ({ repository, file, loadedBytes, totalBytes }: DownloadProgress) => {
    const done = loadedBytes === totalBytes;
    const percent = Math.floor((100 * loadedBytes) / Math.max(1, totalBytes));
    const text = done ? `fetched ${bytes(totalBytes)}` : `${percent}% of ${bytes(totalBytes)}`;
    const now = `${repository}: ${file}, ${text}`;
    if (now === shown) return;
    shown = now;
    if (done) line.lasting(now);
    else if (line.terminal) line.live(line.fitted(now));
  };
  return { onProgress };
}
