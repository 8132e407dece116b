import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

/** The package's folder, for what it ships beside the code. */
export const PACKAGE_ROOT = fileURLToPath(new URL('../', import.meta.url));

/** The version of this package. */
export function packageVersion(): string {
  const file = new URL('../package.json', import.meta.url);
  return (JSON.parse(readFileSync(file, 'utf8')) as { version: string }).version;
}
