// Reads a TAP file and prints what failed, each failure with where it stands and what it said, and as the last line
// `N passed, N failed` (and how many were skipped, each with its reason before), counting assertions.
//
//   node scripts/test-summary.mjs FILE.tap STATUS
//
// STATUS is the exit status of the test run: one that failed for another reason (coverage, a crash) counts as a failure.

import { createReadStream } from 'node:fs';
import { inspect } from 'node:util';
import { Parser } from 'tap-parser';

const counts = { passed: 0, failed: 0 };
const failures = [];
const skipped = [];

/** Subtests are summed up by their own assertions, not by the line that closes them, unless it alone tells a failure. */
function count(parser, path) {
  const failedBefore = new Map();
  parser.on('child', (child) => {
    failedBefore.set(child.name, counts.failed);
    count(child, [...path, child.name]);
  });
  parser.on('assert', (result) => {
    const before = failedBefore.get(result.name);
    if (result.skip || result.todo) {
      // A file or test of which nothing runs tells it by that line alone.
      skipped.push({ path: [...path, result.name], reason: result.skip || result.todo });
      return;
    }
    if (before !== undefined && (result.ok || counts.failed > before)) return;
    if (result.ok) counts.passed += 1;
    else {
      counts.failed += 1;
      failures.push({ path: [...path, result.name], diag: result.diag });
    }
  });
}

/** Its path through the tests, and what it told, indented: strings as they are, with their lines. */
function describe({ path, diag }) {
  const told = Object.entries(diag ?? {}).map(
    ([key, value]) => `${key}: ${typeof value === 'string' ? value : inspect(value, { depth: 6, breakLength: 120 })}`,
  );
  return `${[`not ok: ${path.join(' > ')}`, ...told].join('\n').trimEnd().replaceAll('\n', '\n    ')}\n`;
}

const [file, status] = process.argv.slice(2);
const root = new Parser((results) => {
  if (results.bailout) failures.push({ path: [file, 'bail out'], diag: { reason: String(results.bailout) } });
  const failed = Math.max(counts.failed, status === '0' ? 0 : 1);
  const more = skipped.length > 0 ? `, ${skipped.length} skipped` : '';
  for (const { path, reason } of skipped) process.stdout.write(`skipped: ${path.join(' > ')}: ${reason}\n`);
  process.stdout.write(failures.map(describe).join(''));
  process.stdout.write(`${counts.passed} passed, ${failed} failed${more}\n`);
  process.exitCode = failed > 0 || counts.passed === 0 ? 1 : 0;
});
count(root, []);
createReadStream(file).pipe(root);
