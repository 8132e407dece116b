// What .ci/run says at its end, of a TAP file.
import { spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';

const TAP = `TAP version 14
# Subtest: a.test.ts
    1..0 # no nvcc here
ok 1 - a.test.ts # SKIP no nvcc here
# Subtest: b.test.ts
    # Subtest: page
        1..0 # no Chromium here
    ok 1 - page # SKIP no Chromium here
    # Subtest: sum
        ok 1 - small
        not ok 2 - large
          ---
          found: 3
          ...
        1..2
    not ok 2 - sum
    ok 3 - root # SKIP no root
    1..3
not ok 2 - b.test.ts
1..2
`;

t.test('what failed and what was skipped is told with its reason, and counted once', async (t) => {
  const file = join(t.testdir(), 'out.tap');
  writeFileSync(file, TAP);
  const { status, stdout } = spawnSync(process.execPath, ['scripts/test-summary.mjs', file, '1'], { encoding: 'utf8' });
  t.equal(status, 1);
  t.same(stdout.split('\n'), [
    'skipped: a.test.ts: no nvcc here',
    'skipped: b.test.ts > page: no Chromium here',
    'skipped: b.test.ts > root: no root',
    'not ok: b.test.ts > sum > large',
    '    found: 3',
    '1 passed, 1 failed, 3 skipped',
    '',
  ]);
});
