import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

let root: string | undefined;

/** A new folder for the files of one test; it goes when the process of the tests ends. */
export function temporaryFolder(): string {
  root ??= removedAtExit(mkdtempSync(join(tmpdir(), 'kotodama-test-')));
  return mkdtempSync(join(root, 'folder-'));
}

function removedAtExit(folder: string): string {
  process.once('exit', () => rmSync(folder, { recursive: true, force: true }));
  return folder;
}
