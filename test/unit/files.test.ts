import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { makeFolder, readJsonFile } from '../../dist/files.js';

t.test('makes folders and the ones above them, also when they are there', async (t) => {
  const deep = join(t.testdir(), 'a', 'b', 'c');
  await makeFolder(deep);
  await makeFolder(deep);
  t.ok(existsSync(deep));
  await Promise.all([makeFolder(join(deep, 'd', 'e')), makeFolder(join(deep, 'd', 'f'))]);
  t.ok(existsSync(join(deep, 'd', 'e')) && existsSync(join(deep, 'd', 'f')));
});

t.test('a file in the way is an error', async (t) => {
  const file = join(t.testdir(), 'file');
  writeFileSync(file, '');
  await t.rejects(makeFolder(file), { code: 'EEXIST' });
  await t.rejects(makeFolder(join(file, 'below')), { code: 'ENOTDIR' });
});

t.test('a place that takes no folders is an error, not an endless wait', async (t) => {
  await t.rejects(makeFolder('/proc/kotodama/run'));
});

t.test('JSON, with a byte order mark or without', async (t) => {
  const folder = t.testdir({ 'a.json': '{"a": 1}', 'b.json': '\ufeff{"a": 1}', 'c.json': '\ufeff\ufeff{}' });
  for (const name of ['a.json', 'b.json']) t.same(await readJsonFile(join(folder, name), 'ERR_MODEL_FILE'), { a: 1 });
  await t.rejects(readJsonFile(join(folder, 'c.json'), 'ERR_MODEL_FILE'), { code: 'ERR_MODEL_FILE' });
});
