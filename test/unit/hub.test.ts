import { randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, readlinkSync, symlinkSync, writeFileSync } from 'node:fs';
import type { ServerResponse } from 'node:http';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t, { type Test } from 'tap';
import { type DownloadProgress, folderOf } from '../../dist/hub/index.js';
import { chooseWeightFiles } from '../../dist/model/weight-files.js';
import { Tokenizer } from '../../dist/tokenizer/tokenizer.js';
import {
  etagOf,
  gitHash,
  type HubServer,
  onlyHub,
  type Repository,
  refuse,
  sha256,
  startHub,
} from './helpers/hub-server.js';

const TOKENIZER_FOLDER = fileURLToPath(new URL('../../demo/tokenizer', import.meta.url));
const MAIN = 'a'.repeat(40);
const OLD = 'b'.repeat(40);
const BIG = randomBytes(300_000);

/** A hub with one model, and a cache that is empty. */
async function workplace(t: Test): Promise<{ hub: HubServer; model: Repository; cacheDir: string }> {
  const read = (name: string) => readFileSync(join(TOKENIZER_FOLDER, name));
  const model: Repository = {
    revisions: { main: MAIN, 'refs/pr/1': OLD },
    files: {
      'README.md': Buffer.from('# A model\n'),
      'config.json': Buffer.from('{"model_type":"gpt2"}'),
      'model.safetensors': BIG,
      'pytorch_model.bin': Buffer.from('pickle'),
      'tokenizer.json': read('tokenizer.json'),
      'tokenizer_config.json': read('tokenizer_config.json'),
    },
    lfs: ['model.safetensors', 'pytorch_model.bin'],
  };
  return { ...(await onlyHub(t, { 'someone/some-model': model })), model };
}

const weights = () => ['config.json', 'model.safetensors'];
const resolved = (hub: HubServer) => hub.asked.filter(({ path }) => path.includes('/resolve/'));

t.test('a tokenizer from the hub: only what is needed, in the layout of the shared cache', async (t) => {
  const { hub, model, cacheDir } = await workplace(t);
  const tokenizer = await Tokenizer.fromPretrained('someone/some-model');
  const local = await Tokenizer.fromPretrained(TOKENIZER_FOLDER);
  t.same(tokenizer.encode('言語モデル and words'), local.encode('言語モデル and words'));
  t.equal(tokenizer.fingerprint, local.fingerprint);

  const folder = join(cacheDir, 'models--someone--some-model');
  t.equal(tokenizer.source?.dir, join(folder, 'snapshots', MAIN));
  t.equal(readFileSync(join(folder, 'refs/main'), 'utf8'), MAIN);
  t.same(readdirSync(join(folder, 'snapshots', MAIN)), ['config.json', 'tokenizer.json', 'tokenizer_config.json']);
  const etag = etagOf(model, 'tokenizer.json');
  t.equal(readlinkSync(join(folder, 'snapshots', MAIN, 'tokenizer.json')), `../../blobs/${etag}`);
  const others = ['config.json', 'tokenizer_config.json'].map((name) => etagOf(model, name));
  t.same(readdirSync(join(folder, 'blobs')).sort(), [etag, ...others].sort());

  const before = resolved(hub).length;
  t.equal(before, 3);
  await Tokenizer.fromPretrained('someone/some-model');
  t.equal(resolved(hub).length, before, 'nothing is fetched twice');
});

t.test('revisions share what is equal, and have their own commit', async (t) => {
  const { hub, model, cacheDir } = await workplace(t);
  await folderOf('someone/some-model', weights);
  const pull = await folderOf('someone/some-model@refs/pr/1', weights);
  t.equal(pull, join(cacheDir, 'models--someone--some-model/snapshots', OLD));
  t.equal(readFileSync(join(cacheDir, 'models--someone--some-model/refs/refs/pr/1'), 'utf8'), OLD);
  t.equal(resolved(hub).length, 2, 'the blobs were there already');
  t.equal(await folderOf('someone/some-model', weights, { revision: 'refs/pr/1' }), pull);
  t.equal(await folderOf('someone/some-model', weights, { revision: OLD }), pull);
  t.notOk(existsSync(join(cacheDir, 'models--someone--some-model/refs', OLD)), 'a commit needs no reference');

  model.revisions.main = 'c'.repeat(40);
  model.files['config.json'] = Buffer.from('{"model_type":"gpt2","n_layer":2}');
  const newer = await folderOf('someone/some-model', weights);
  t.match(newer, /c{40}$/, 'main has moved on');
  t.equal(readFileSync(join(newer, 'config.json'), 'utf8'), '{"model_type":"gpt2","n_layer":2}');
  t.equal(readFileSync(join(pull, 'config.json'), 'utf8'), '{"model_type":"gpt2"}');

  const both = folderOf('someone/some-model@main', weights, { revision: 'refs/pr/1' });
  await t.rejects(both, { code: 'ERR_OPTIONS', message: /one revision, 'main'/ });
  for (const revision of ['../../x', '/etc', 'a/../b', '']) {
    const wrong = folderOf('someone/some-model', weights, { revision });
    await t.rejects(wrong, { code: 'ERR_OPTIONS', message: /revision/ }, JSON.stringify(revision));
  }
});

/**
 * Answers with some bytes, and breaks when a part of them is in the file: what is on its way when a connection breaks is
 * lost.
 */
function breaking() {
  let response: ServerResponse | undefined;
  return {
    send(bytes: Buffer, to: ServerResponse) {
      response = to;
      to.write(bytes);
    },
    onProgress({ file }: DownloadProgress) {
      if (file === 'model.safetensors') response?.destroy();
    },
  };
}

t.test('an interrupted download goes on where it stopped', async (t) => {
  const { hub, cacheDir } = await workplace(t);
  const blob = join(cacheDir, 'models--someone--some-model/blobs', sha256(BIG));
  const { send, onProgress } = breaking();
  hub.before = (request, response) => {
    if (!request.url?.endsWith('model.safetensors')) return false;
    if (request.headers.range !== undefined) {
      response.destroy();
      return true;
    }
    response.writeHead(200, { 'content-length': BIG.length });
    send(BIG.subarray(0, 100_000), response);
    return true;
  };
  const broken = folderOf('someone/some-model', weights, { onProgress });
  await t.rejects(broken, {
    code: 'ERR_HUB',
    message: /127.0.0.1.* cannot be reached.*\n.*hint: check the path, or the network/,
  });
  const kept = readFileSync(`${blob}.incomplete`);
  t.ok(kept.length > 0 && kept.length <= 100_000, `${kept.length} bytes came`);
  t.equal(kept.compare(BIG.subarray(0, kept.length)), 0, 'and are kept');
  t.notOk(existsSync(blob));
  t.notOk(existsSync(join(cacheDir, 'models--someone--some-model/refs')), 'nobody takes it for complete');

  hub.before = undefined;
  hub.asked.length = 0;
  const progress: DownloadProgress[] = [];
  const folder = await folderOf('someone/some-model', weights, { onProgress: (event) => progress.push(event) });
  t.equal(readFileSync(join(folder, 'model.safetensors')).compare(BIG), 0);
  t.same(
    resolved(hub).map(({ range }) => range),
    [`bytes=${kept.length}-`],
    'config.json was there',
  );
  t.same(progress[0], {
    repository: 'someone/some-model',
    file: 'model.safetensors',
    loadedBytes: kept.length,
    totalBytes: BIG.length,
  });
  t.equal(progress.at(-1)?.loadedBytes, BIG.length);
  t.notOk(existsSync(`${blob}.incomplete`));
});

t.test('a connection that breaks is taken up again at once', async (t) => {
  const { hub } = await workplace(t);
  const { send, onProgress } = breaking();
  // More often than it is given up after: it gets on each time.
  let breaks = 5;
  hub.before = (request, response) => {
    if (!request.url?.endsWith('model.safetensors') || breaks-- <= 0) return false;
    // What fetch itself asks for with a range is added to ours.
    t.match(request.headers['accept-encoding'], /^identity(, identity)?$/, 'bytes of the answer are those of the file');
    const [, from = '0'] = /bytes=(\d+)-/.exec(request.headers.range ?? '') ?? [];
    const head = { 'content-range': `bytes ${from}-${BIG.length - 1}/${BIG.length}` };
    response.writeHead(request.headers.range === undefined ? 200 : 206, head);
    send(BIG.subarray(Number(from), Number(from) + 50_000), response);
    return true;
  };
  const folder = await folderOf('someone/some-model', weights, { onProgress });
  t.equal(readFileSync(join(folder, 'model.safetensors')).compare(BIG), 0);
  const [, begin, ...later] = resolved(hub).map(({ range }) => range);
  t.equal(begin, undefined, 'after config.json');
  const starts = later.map((range) => Number(/^bytes=(\d+)-$/.exec(range ?? '')?.[1]));
  t.equal(starts.length, 5);
  t.ok(
    starts.every((start, index) => start > (starts[index - 1] ?? 0)),
    `${starts}`,
  );
});

t.test('several at once', async (t) => {
  const { hub, cacheDir } = await workplace(t);
  const folders = await Promise.all(Array.from({ length: 4 }, () => folderOf('someone/some-model', weights)));
  t.equal(new Set(folders).size, 1);
  t.equal(readFileSync(join(folders[0], 'model.safetensors')).compare(BIG), 0);
  const folder = join(cacheDir, 'models--someone--some-model');
  t.same(readdirSync(folders[0]), weights());
  t.equal(readdirSync(join(folder, 'blobs')).length, 2, 'nothing is left behind');
  t.same(readdirSync(join(folder, 'refs')), ['main']);
  t.ok(hub.asked.length > 0);
});

t.test('a server that knows no ranges sends the whole file', async (t) => {
  const { hub, cacheDir } = await workplace(t);
  leavePart(cacheDir, BIG.subarray(0, 5000));
  hub.before = (request, response) => {
    if (!request.url?.endsWith('model.safetensors')) return false;
    response.end(BIG);
    return true;
  };
  const folder = await folderOf('someone/some-model', weights);
  t.equal(readFileSync(join(folder, 'model.safetensors')).compare(BIG), 0);
});

t.test('a server that does not go on where it is asked to', async (t) => {
  for (const [status, head] of [
    [416, {}],
    [206, { 'content-range': `bytes 7-${BIG.length - 1}/${BIG.length}` }],
  ] as const) {
    const { hub, cacheDir } = await workplace(t);
    const blobs = join(cacheDir, 'models--someone--some-model/blobs');
    mkdirSync(blobs, { recursive: true });
    writeFileSync(join(blobs, `${sha256(BIG)}.incomplete`), BIG.subarray(0, 5000));
    hub.before = ({ headers }, response) => {
      if (headers.range === undefined) return false;
      response.writeHead(status, head).end(BIG.subarray(7));
      return true;
    };
    const folder = await folderOf('someone/some-model', weights);
    t.equal(readFileSync(join(folder, 'model.safetensors')).compare(BIG), 0, `${status}`);
  }
});

t.test('damaged content is noticed and removed', async (t) => {
  const { hub, model, cacheDir } = await workplace(t);
  for (const [name, hash] of [
    ['model.safetensors', sha256(BIG)],
    ['config.json', gitHash(model.files['config.json'])],
  ]) {
    const options = { cacheDir: join(cacheDir, name) };
    const fetchAll = () => folderOf('someone/some-model', weights, options);
    const blobs = join(options.cacheDir, 'models--someone--some-model/blobs');
    hub.before = (request, response) => {
      if (!request.url?.endsWith(name)) return false;
      const damaged = Buffer.from(model.files[name]);
      damaged[7] ^= 1;
      response.end(damaged);
      return true;
    };
    const message = new RegExp(`${name} was damaged on its way.*expected ${hash}, received`);
    await t.rejects(fetchAll(), { code: 'ERR_HUB', message });
    t.notOk(existsSync(join(blobs, hash)));
    t.notOk(existsSync(join(blobs, `${hash}.incomplete`)));
    hub.before = (request, response) => {
      if (!request.url?.endsWith(name)) return false;
      response.end(Buffer.concat([model.files[name], Buffer.from('more')]));
      return true;
    };
    await t.rejects(fetchAll(), { message: /longer than announced/ });
    hub.before = undefined;
    // A beginning that is not the file's, as after a power cut.
    writeFileSync(join(blobs, `${hash}.incomplete`), Buffer.alloc(5));
    await t.rejects(fetchAll(), { code: 'ERR_HUB', message });
    await fetchAll();
  }
  // A blob of another size cannot be what it says.
  const blobs = join(cacheDir, 'models--someone--some-model/blobs');
  mkdirSync(blobs, { recursive: true });
  writeFileSync(join(blobs, sha256(BIG)), BIG.subarray(0, 10));
  const folder = await folderOf('someone/some-model', weights);
  t.equal(readFileSync(join(folder, 'model.safetensors')).compare(BIG), 0);
});

t.test('offline, and when the hub is away', async (t) => {
  const { hub, cacheDir } = await workplace(t);
  const offline = () => folderOf('someone/some-model', weights, { offline: true });
  await t.rejects(offline(), { code: 'ERR_HUB', message: /offline it must be in .*hub: .*'main', received nothing/ });
  await Tokenizer.fromPretrained('someone/some-model');
  await t.rejects(offline(), { code: 'ERR_HUB', message: /received it without model.safetensors/ });
  const folder = await folderOf('someone/some-model', weights);
  hub.asked.length = 0;
  t.equal(await offline(), folder);
  process.env.HF_HUB_OFFLINE = '1';
  t.equal(await folderOf('someone/some-model', weights), folder);
  t.equal(await folderOf('someone/some-model', weights, { revision: MAIN }), folder);
  const other = folderOf('someone/some-model@v2', weights);
  await t.rejects(other, { code: 'ERR_HUB', message: /'v2'.*nothing of it\n.*HF_HUB_OFFLINE/ });
  t.same(hub.asked, [], 'no question to the hub');
  process.env.HF_HUB_OFFLINE = '0';

  hub.before = (_, response) => {
    refuse(response, 503, 'Busy');
    return true;
  };
  t.equal(await folderOf('someone/some-model', weights), folder, 'the hub fails, the cache does not');
  await hub[Symbol.asyncDispose]();
  t.equal(await folderOf('someone/some-model', weights), folder, 'no hub at all');
  const unknown = folderOf('someone/other', weights);
  await t.rejects(unknown, {
    code: 'ERR_HUB',
    message: /'someone\/other' is no folder here, and 127.0.0.1:\d+ cannot be reached .*ECONNREFUSED/,
  });
  process.env.HTTP_PROXY = 'http://127.0.0.1:1';
  const proxied = folderOf('someone/other', weights);
  await t.rejects(proxied, { message: /, or the network; HTTP_PROXY is used by Node .* with NODE_USE_ENV_PROXY=1$/ });
  t.ok(existsSync(cacheDir));
});

t.test('a cache that Python has filled', async (t) => {
  const { hub, cacheDir } = await workplace(t);
  // As huggingface_hub 1.x leaves it: blobs by ETag, relative links, refs without a newline.
  const folder = join(cacheDir, 'models--someone--else');
  for (const part of ['blobs', 'refs', `snapshots/${OLD}`]) mkdirSync(join(folder, part), { recursive: true });
  for (const name of ['tokenizer.json', 'tokenizer_config.json']) {
    const content = readFileSync(join(TOKENIZER_FOLDER, name));
    writeFileSync(join(folder, 'blobs', gitHash(content)), content);
    symlinkSync(`../../blobs/${gitHash(content)}`, join(folder, 'snapshots', OLD, name));
  }
  writeFileSync(join(folder, 'refs/main'), OLD);
  const tokenizer = await Tokenizer.fromPretrained('someone/else', { offline: true });
  t.equal(tokenizer.decode(tokenizer.encode('権利')), '権利');
  t.same(hub.asked, []);
  symlinkSync('../../blobs/gone', join(folder, 'snapshots', OLD, 'model.safetensors'));
  const gone = folderOf('someone/else', () => ['model.safetensors'], { offline: true });
  await t.rejects(gone, { message: /without model.safetensors/ }, 'a link to nothing is no file');
});

t.test('private, gated and unknown models', async (t) => {
  const { hub, model } = await workplace(t);
  Object.assign(hub.repositories, {
    'someone/secret': { ...model, token: 'hf_right' },
    'someone/gated': { ...model, gated: true },
  });
  const stranger = folderOf('someone/secret', weights);
  await t.rejects(stranger, { code: 'ERR_HUB', message: /no folder here, .* that is public\n.*HF_TOKEN/ });
  const wrong = folderOf('someone/secret', weights, { token: 'hf_wrong' });
  await t.rejects(wrong, { code: 'ERR_HUB', message: /has no such model\n.*spelling/ });
  t.ok(await folderOf('someone/secret', weights, { token: 'hf_right' }));
  t.ok(resolved(hub).every(({ authorization }) => authorization === 'Bearer hf_right'));
  writeFileSync(join(process.env.HF_HOME as string, 'token'), 'hf_right\n');
  t.ok(await folderOf('someone/secret', weights), "the token file's");
  process.env.HF_TOKEN = 'hf_wrong';
  await t.rejects(folderOf('someone/secret', weights), { code: 'ERR_HUB' }, 'HF_TOKEN wins over the file');
  const gated = folderOf('someone/gated', weights);
  await t.rejects(gated, { code: 'ERR_HUB', message: /gated.*\n.*accept its terms at http.*someone\/gated/ });
  const revision = folderOf('someone/some-model@v9', weights);
  await t.rejects(revision, { code: 'ERR_HUB', message: /has no revision 'v9'/ });
  for (const [status, message] of [
    [401, /does not accept the token/],
    [403, /forbids access/],
    [429, /too many requests\n.*wait/],
    [418, /status 418/],
  ] as const) {
    hub.before = (_, response) => {
      refuse(response, status, '');
      return true;
    };
    await t.rejects(folderOf('someone/some-model', weights), { code: 'ERR_HUB', message }, `${status}`);
  }
});

t.test('a token goes to no other host', async (t) => {
  const { hub, model } = await workplace(t);
  const elsewhere = await startHub({ 'someone/some-model': model });
  t.teardown(() => elsewhere[Symbol.asyncDispose]());
  hub.before = (request, response) => {
    if (!request.url?.includes('/resolve/')) return false;
    response.writeHead(302, { location: `${elsewhere.endpoint}${request.url}` }).end();
    return true;
  };
  const folder = await folderOf('someone/some-model', weights, { token: 'hf_secret' });
  t.equal(readFileSync(join(folder, 'model.safetensors')).compare(BIG), 0);
  t.same([...new Set(hub.asked.map(({ authorization }) => authorization))], ['Bearer hf_secret']);
  t.same([...new Set(elsewhere.asked.map(({ authorization }) => authorization))], [undefined]);
});

t.test('a token goes to no other host, where a list of files goes on there', async (t) => {
  const { hub, model } = await workplace(t);
  const elsewhere = await startHub({ 'someone/some-model': model });
  t.teardown(() => elsewhere[Symbol.asyncDispose]());
  hub.before = (request, response) => {
    if (!request.url?.includes('/tree/')) return false;
    response.setHeader('link', `<${elsewhere.endpoint}${request.url}>; rel="next"`);
    response.setHeader('content-type', 'application/json');
    response.end('[]');
    return true;
  };
  const folder = await folderOf('someone/some-model', weights, { token: 'hf_secret' });
  t.equal(readFileSync(join(folder, 'model.safetensors')).compare(BIG), 0);
  t.same([...new Set(hub.asked.map(({ authorization }) => authorization))], ['Bearer hf_secret']);
  t.same([...new Set(elsewhere.asked.map(({ authorization }) => authorization))], [undefined]);
});

/** As an interrupted download leaves the beginning of the weights. */
function leavePart(cacheDir: string, part: Buffer): void {
  const blobs = join(cacheDir, 'models--someone--some-model/blobs');
  mkdirSync(blobs, { recursive: true });
  writeFileSync(join(blobs, `${sha256(BIG)}.incomplete`), part);
}

t.test('a part that is longer than the file is begun anew', async (t) => {
  const { cacheDir } = await workplace(t);
  leavePart(cacheDir, Buffer.concat([BIG, Buffer.from('more')]));
  const folder = await folderOf('someone/some-model', weights);
  t.equal(readFileSync(join(folder, 'model.safetensors')).compare(BIG), 0);
});

t.test('a file of another size in the folder of a snapshot is replaced', async (t) => {
  const { cacheDir } = await workplace(t);
  const snapshot = join(cacheDir, 'models--someone--some-model/snapshots', MAIN);
  mkdirSync(snapshot, { recursive: true });
  writeFileSync(join(snapshot, 'model.safetensors'), BIG.subarray(0, 10));
  const folder = await folderOf('someone/some-model', weights);
  t.equal(readFileSync(join(folder, 'model.safetensors')).compare(BIG), 0);
});

t.test('answers that are no hub', async (t) => {
  const { hub, cacheDir } = await workplace(t);
  const reply = (body: unknown) => (path: string | undefined, response: ServerResponse) => {
    const commit = path?.includes('/revision/') && Array.isArray(body);
    response.writeHead(200, { 'content-type': 'application/json' });
    response.end(typeof body === 'string' ? body : JSON.stringify(commit ? { sha: MAIN } : body));
    return true;
  };
  const file = { type: 'file', size: 1, oid: OLD, path: 'config.json' };
  const bodies = [
    '<html>Please log in</html>',
    { sha: '../../x' },
    {},
    [{ ...file, path: '../../evil' }],
    [{ ...file, path: '..' }],
    [{ ...file, oid: '../../x' }],
    [{ ...file, size: -1 }],
    [{ ...file, lfs: { oid: OLD, size: 1 } }],
    [null],
  ];
  for (const body of bodies) {
    const answer = reply(body);
    hub.before = ({ url }, response) => answer(url, response);
    await t.rejects(
      folderOf('someone/some-model', weights),
      { code: 'ERR_HUB', message: /does not answer as a hub does.*\n.*HF_ENDPOINT/ },
      JSON.stringify(body),
    );
  }
  t.notOk(existsSync(cacheDir), 'nothing was written');
});

t.test('what a repository lacks', async (t) => {
  const { hub, model } = await workplace(t);
  hub.repositories['someone/words'] = { ...model, files: { 'README.md': Buffer.from('words') } };
  const none = Tokenizer.fromPretrained('someone/words');
  await t.rejects(none, { code: 'ERR_HUB', message: /expected tokenizer.json, received only README.md/ });
  const [vocab, merges, config] = ['{}', '', '{}'].map((text) => Buffer.from(text)) as [Buffer, Buffer, Buffer];
  const older = { 'vocab.json': vocab, 'merges.txt': merges, 'config.json': config };
  hub.repositories['someone/older'] = { ...model, files: older };
  await t.rejects(Tokenizer.fromPretrained('someone/older'), {
    code: 'ERR_TOKENIZER',
    hint: /AutoTokenizer\.from_pretrained\('someone\/older'\)\.save_pretrained\('tokenizer'\)/,
  });
  const chosen = (...names: string[]) => chooseWeightFiles(names, 'someone/words');
  t.same(chosen('model.safetensors', 'pytorch_model.bin'), ['model.safetensors']);
  t.throws(() => chosen('config.json', 'pytorch_model.bin'), {
    code: 'ERR_MODEL_FILE',
    message: /someone\/words has only pytorch_model.bin.*refs\/pr\/1/s,
  });
  t.same(chosen('model.safetensors.index.json', 'model-00001-of-00003.safetensors', 'x.safetensors'), [
    'model.safetensors.index.json',
    ...['model-00001-of-00003.safetensors', 'model-00002-of-00003.safetensors', 'model-00003-of-00003.safetensors'],
  ]);
  t.same(chosen('README.md'), ['model.safetensors']);
});

t.test('paths are never looked for on a hub', async (t) => {
  const { hub } = await workplace(t);
  const folder = t.testdir({ 'some-model': {} });
  process.chdir(join(folder, '..'));
  const owner = folder.slice(folder.lastIndexOf('/') + 1);
  t.equal(await folderOf(`${owner}/some-model`, weights), `${owner}/some-model`, 'what exists here wins');
  const paths = ['.', './a/b', '/a/b', '../a', 'gpt2', 'a/b/c', '~/a', 'a/', 'a b/c', 'a--b/c', 'a/b..c', 'あ/い', ''];
  for (const path of paths) t.equal(await folderOf(path, weights), path);
  t.same(hub.asked, []);
  const nowhere = Tokenizer.fromPretrained('nowhere');
  await t.rejects(nowhere, { code: 'ERR_TOKENIZER', message: /was not found.*hint: .*owner\/name/s });
});

t.test('options', async (t) => {
  const { hub } = await workplace(t);
  const cacheDir = t.testdir();
  const folder = await folderOf('someone/some-model', weights, { cacheDir });
  t.ok(folder.startsWith(`${cacheDir}/models--someone`), folder);
  process.env.HF_HUB_CACHE = join(cacheDir, 'shared');
  t.match(await folderOf('someone/some-model', weights), /\/shared\/models--someone/);
  for (const options of [{ token: 1 }, { offline: 'yes' }, { onProgress: 1 }, { cachedir: 'x' }]) {
    const wrong = folderOf('someone/some-model', weights, options as never);
    await t.rejects(wrong, { code: 'ERR_OPTIONS' }, JSON.stringify(options));
  }
  writeFileSync(join(cacheDir, 'file'), '');
  const file = folderOf('someone/some-model', weights, { cacheDir: join(cacheDir, 'file') });
  await t.rejects(file, { code: 'ERR_IO', message: /cannot be written.*\n.*HF_HOME/ });
  process.env.HF_ENDPOINT = 'localhost';
  await t.rejects(folderOf('someone/some-model', weights), { code: 'ERR_OPTIONS', message: /HF_ENDPOINT/ });
  t.ok(await Tokenizer.fromPretrained(TOKENIZER_FOLDER), 'which local folders do not need');
  t.ok(hub.asked.length > 0);
});

t.test('a token that no header can hold is refused without being shown, wherever it comes from', async (t) => {
  const { hub } = await workplace(t);
  const refused = async (token?: string) => {
    const error = await folderOf('someone/some-model', weights, { token }).catch((thrown: unknown) => thrown);
    t.match(error, { code: 'ERR_OPTIONS', message: /token: expected printable ASCII.* received .*\n.*HF_TOKEN/ });
    t.notMatch(String((error as Error).stack), /hf_|second/);
  };
  for (const token of ['hf_secret\nsecond', 'hf_secret second', 'hf_sécond', ' ']) await refused(token);
  process.env.HF_TOKEN = 'hf_secret\r\nsecond';
  await refused();
  delete process.env.HF_TOKEN;
  writeFileSync(join(process.env.HF_HOME as string, 'token'), 'hf_secret\nsecond\n');
  await refused();
  t.equal(hub.asked.length, 0, 'the hub is not to blame, and not asked');
  t.ok(await folderOf('someone/some-model', weights, { token: 'hf_right\n' }), 'the end of a line may come along');
});
