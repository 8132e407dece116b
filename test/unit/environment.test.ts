// README has every environment variable of this project's own that the package reads.
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';

t.test('variables of the environment are in the table of README', async (t) => {
  const sources = ['lib', 'csrc', 'scripts'].flatMap((folder) =>
    readdirSync(folder, { recursive: true, encoding: 'utf8' }).map((name) => join(folder, name)),
  );
  const shipped = sources.filter((path) => /\.(ts|cc|h)$|install\.mjs$/.test(path) && !/\b(test|bench)\b/.test(path));
  const names = shipped.flatMap((path) => {
    const text = readFileSync(path, 'utf8');
    return [...text.matchAll(/(?:process\.env\.|getenv\(")(KOTODAMA_\w+)/g)].map((match) => match[1]);
  });
  t.ok(names.length >= 5, 'they are found');
  const readme = readFileSync('README.md', 'utf8');
  for (const name of new Set(names)) t.match(readme, new RegExp(`^\\| .*\`${name}\``, 'm'), name);
});
