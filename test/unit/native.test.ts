// The addon where it cannot be found: in a bundle, which no package's folder surrounds.
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { buildSync } from 'esbuild';
import t from 'tap';

t.test('an engine that cannot be loaded says what to do, in a bundle and with pnpm too', async (t) => {
  const outfile = join(t.testdir(), 'bundle.mjs');
  const resolveDir = fileURLToPath(new URL('../../lib', import.meta.url));
  buildSync({
    stdin: { contents: "import { native } from './native.ts'; native();", resolveDir },
    bundle: true,
    platform: 'node',
    format: 'esm',
    outfile,
  });
  const { stderr } = spawnSync(process.execPath, [outfile], { encoding: 'utf8' });
  t.match(stderr, /KotodamaError: The native engine could not be loaded/);
  for (const way of [
    'npm rebuild kotodama',
    'npm approve-scripts',
    'pnpm approve-builds',
    'esbuild: `--external:kotodama`',
  ]) {
    t.match(stderr, way);
  }
});
