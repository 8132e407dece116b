import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

/** The package's folder, for what it ships beside the code. */
export const PACKAGE_ROOT = fileURLToPath(new URL('../', import.meta.url));

/** The version of this package. */
export function packageVersion(): string {
  return manifest().version;
}

/** Why this package cannot run on a version of Node, such as `v18.20.0`; null when it can. */
export function nodeProblem(node: string): string | null {
  const needed = manifest().engines.node;
  const fits = needed.split('||').some((range) => isInRange(node, range.trim()));
  return fits ? null : `kotodama needs Node ${needed}`;
}

/** Whether a version, as numbers with dots between, is another one or comes later. */
export function isAtLeast(version: string, least: string): boolean {
  const [found, wanted] = [numbersOf(version), numbersOf(least)];
  const differs = wanted.findIndex((number, i) => number !== (found[i] ?? 0));
  return differs === -1 || (found[differs] ?? 0) > (wanted[differs] as number);
}

/** @param range `>=1.2.3`, or `^1.2.3`, which ends before 2 */
function isInRange(version: string, range: string): boolean {
  const isSameMajor = numbersOf(version)[0] === numbersOf(range)[0];
  return isAtLeast(version, range) && (isSameMajor || !range.startsWith('^'));
}

function numbersOf(version: string): number[] {
  return (version.match(/\d+/g) ?? []).map(Number);
}

function manifest(): { version: string; engines: { node: string } } {
  return JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8'));
}
