// Bundles what a browser runs of our pages into dist/report.

import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';

const path = (name) => fileURLToPath(new URL(`../${name}`, import.meta.url));

await build({
  entryPoints: ['explain-page', 'page'].flatMap((name) => [
    path(`lib/report/${name}/main.ts`),
    path(`lib/report/${name}/style.css`),
  ]),
  outdir: path('dist/report'),
  outbase: path('lib/report'),
  bundle: true,
  minify: true,
  format: 'iife',
  target: ['chrome111', 'firefox113', 'safari16.4'],
  logLevel: 'warning',
});
