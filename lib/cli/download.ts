import type { DownloadProgress, HubOptions } from '../hub/index.js';
import { bytes } from '../report/format.js';
import type { ProgressStream } from '../report/live-line.js';

/** Shows downloads where the progress goes: on a terminal a live line for each file, elsewhere a line when it is there. */
export function showDownloads(stream: ProgressStream = process.stderr): Pick<HubOptions, 'onProgress'> {
  let shown = '';
  const onProgress = ({ repository, file, loadedBytes, totalBytes }: DownloadProgress) => {
    const done = loadedBytes === totalBytes;
    const percent = Math.floor((100 * loadedBytes) / Math.max(1, totalBytes));
    const text = done ? `fetched ${bytes(totalBytes)}` : `${percent}% of ${bytes(totalBytes)}`;
    const line = `${repository}: ${file}, ${text}`;
    if (line === shown) return;
    shown = line;
    if (stream.isTTY === true) stream.write(`\r\x1b[2K${line}${done ? '\n' : ''}`);
    else if (done) stream.write(`${line}\n`);
  };
  return { onProgress };
}
