import { readFileSync } from 'node:fs';
import type { RequestListener, ServerResponse } from 'node:http';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { brotliCompressSync, gzipSync } from 'node:zlib';
import t from 'tap';
import { areTokenFiles } from '../../dist/cli/data.js';
import { BlockDataset, TokenDataset } from '../../dist/data/index.js';
import { publicName, publicNames } from '../../dist/data/sources/public-name.js';
import { readUrlBytes } from '../../dist/data/sources/url-bytes.js';
import { NUMBERS } from './helpers/blocks.js';
import { serve } from './helpers/serve.js';
import { textsAndFailure, textsOf } from './helpers/sources.js';

const NUMBERS_MARK = { fingerprint: 'numbers', vocabSize: NUMBERS.vocabSize };
const FIXTURES = fileURLToPath(new URL('./fixtures/sources', import.meta.url));

t.test('URLs: text, compressed or not, redirected, refused, broken off', async (t) => {
  let breaking: ServerResponse | undefined;
  const routes: { [path: string]: RequestListener } = {
    '/a.txt': (_, response) => response.end('1\n2\n'),
    '/a.jsonl.gz': (_, response) => response.end(gzipSync('{"text":"3"}\n')),
    '/packed.txt': (_, response) => {
      response.writeHead(200, { 'content-encoding': 'gzip' });
      response.end(gzipSync('4\n'));
    },
    '/moved': (_, response) => response.writeHead(302, { location: '/a.txt' }).end(),
    '/round': (_, response) => response.writeHead(307, { location: '/round' }).end(),
    '/elsewhere': (_, response) => response.writeHead(301, { location: 'ftp://localhost/a.txt' }).end(),
    '/secret': (_, response) => response.writeHead(403).end(),
    '/broken.txt': (_, response) => {
      response.writeHead(200, { 'content-length': '1000' });
      response.write('5\n6\n');
      breaking = response;
    },
    '/endless.txt': (_, response) => {
      const more = () => {
        while (response.write('7\n'.repeat(1000)));
      };
      response.on('drain', more);
      more();
    },
  };
  const base = await serve(t, (request, response) => {
    const path = new URL(request.url ?? '/', 'http://x').pathname;
    const listener = routes[path] ?? ((_, reply) => reply.writeHead(404).end());
    listener(request, response);
  });
  t.same(await textsOf([`${base}/a.txt?token=x`, `${base}/a.jsonl.gz`, `${base}/packed.txt`, `${base}/moved`]), [
    '1',
    '2',
    '3',
    '4',
    '1',
    '2',
  ]);
  t.same(await textsOf(`${base}/a.txt`, {}, { file: 0, offset: 2 }), ['2'], 'continues by reading again');
  await t.rejects(textsOf(`${base}/secret`), { code: 'ERR_IO', message: /403/ });
  await t.rejects(textsOf(`${base}/round`), { code: 'ERR_IO', message: /more than 20 redirections/ });
  await t.rejects(textsOf(`${base}/elsewhere`), { code: 'ERR_IO', message: /ftp:/ });
  const missing = await textsAndFailure(`${base}/nothing.txt?token=abc`);
  t.match(missing.failure, { code: 'ERR_IO', message: /404.*\n.*hint: .*spelling/ });
  t.notMatch(missing.failure?.message, /token/, 'a query can hold a secret');
  // What has come but was not read is lost with the connection: it breaks when more is asked for.
  const broken = readUrlBytes(`${base}/broken.txt`, () => {});
  t.equal(Buffer.from((await broken.next()).value as Uint8Array).toString(), '5\n6\n', 'what came before the break');
  breaking?.destroy();
  await t.rejects(broken.next(), { code: 'ERR_IO', message: /broke off after 4 bytes/ });
  await t.rejects(textsOf('http://127.0.0.1:1/a.txt'), { code: 'ERR_IO', message: /cannot be reached .*ECONNREFUSED/ });
  for await (const _ of BlockDataset.fromFile(`${base}/endless.txt`, { tokenizer: NUMBERS, blockSize: 4 })) break;
  t.throws(() => BlockDataset.fromFile(`${base}/a.parquet`, { tokenizer: NUMBERS, blockSize: 1 }), {
    code: 'ERR_OPTIONS',
    message: /download it first/,
  });
});

t.test('URLs: a .gz that the server sends as text packed for the way', async (t) => {
  const packed = gzipSync('1\n2\n');
  const base = await serve(t, (request, response) => {
    const [, encoding] = (request.url as string).split(/[/.]/);
    const once = encoding === 'twice' ? gzipSync(packed) : encoding === 'plain' ? '1\n2\n' : packed;
    response.writeHead(200, {
      'content-encoding': encoding === 'identity' || encoding === 'plain' ? 'identity' : 'gzip',
    });
    response.end(once);
  });
  // Seen as "gzip" by servers that name the file's own packing so, and as "twice" by those that pack it again.
  for (const path of ['gzip', 'twice', 'identity']) t.same(await textsOf(`${base}/${path}.txt.gz`), ['1', '2'], path);
  t.same(await textsOf(`${base}/gzip.txt.gz`, {}, { file: 0, offset: 2 }), ['2'], 'and continues');
  await t.rejects(textsOf(`${base}/plain.txt.gz`), { code: 'ERR_DATA', message: /is not gzip data/ });
});

t.test('URLs: what was packed for the way and is cut off is never taken for whole', async (t) => {
  const lines = Array.from({ length: 5000 }, (_, index) => `${index * index}`);
  const whole = gzipSync(`${lines.join('\n')}\n`);
  const zstd = readFileSync(join(FIXTURES, 'lines-1.txt.zst'));
  const answers: { [path: string]: [encoding: string, content: Uint8Array] } = {
    '/whole.txt': ['gzip', whole],
    '/old.txt': ['X-Gzip', whole],
    '/cut.txt': ['gzip', whole.subarray(0, whole.length / 2)],
    '/end.txt': ['gzip', whole.subarray(0, whole.length - 1)],
    '/cut.txt.gz': ['gzip', whole.subarray(0, whole.length / 2)],
    '/whole.zstd.txt': ['zstd', zstd],
    '/cut.zstd.txt': ['zstd', zstd.subarray(0, zstd.length - 1)],
    '/plain.txt': ['gzip', Buffer.from('1\n2\n')],
    '/br.txt': ['br', brotliCompressSync('1\n')],
  };
  const base = await serve(t, (request, response) => {
    const [encoding, content] = answers[request.url as string];
    // Without a length, as servers send what they pack on the way.
    response.writeHead(200, { 'content-encoding': encoding });
    response.write(content);
    response.end();
  });
  for (const name of ['whole', 'old']) t.same(await textsOf(`${base}/${name}.txt`), lines, name);
  t.same(await textsOf(`${base}/whole.zstd.txt`), await textsOf(join(FIXTURES, 'lines-1.txt.zst')));
  for (const path of ['cut.txt', 'end.txt', 'cut.txt.gz', 'cut.zstd.txt', 'plain.txt']) {
    const { texts, failure } = await textsAndFailure(`${base}/${path}`);
    t.match(failure, { code: 'ERR_DATA', message: /damaged or cut off after \d+ bytes/ }, path);
    if (!path.includes('zstd')) t.same(texts, lines.slice(0, texts.length), 'nothing wrong before');
  }
  await t.rejects(textsOf(`${base}/br.txt`), { code: 'ERR_IO', message: /gzip or zstd.* received br\n.*download it/ });
});

t.test('URLs: words that name no packing, several packings, nothing', async (t) => {
  const lines = Buffer.from('1\n2\n');
  const base = await serve(t, (request, response) => {
    const [path, encoding] = decodeURIComponent(request.url as string).split('?') as [string, string];
    response.writeHead(path === '/nothing' ? 204 : 200, { 'content-encoding': encoding });
    const packings =
      path === '/empty.txt' || path === '/nothing' ? [] : encoding.split(',').filter((word) => /gzip/.test(word));
    response.end(path === '/empty.txt' ? '' : packings.reduce((bytes) => gzipSync(bytes), lines));
  });
  for (const encoding of ['UTF-8', 'aws-chunked', 'aws-chunked, gzip', 'gzip,gzip', 'constructor', ',']) {
    t.same(await textsOf(`${base}/a.txt?${encoding}`), ['1', '2'], encoding);
  }
  for (const path of ['nothing?gzip', 'empty.txt?gzip', 'empty.txt?zstd'])
    t.same(await textsOf(`${base}/${path}`), [], path);
  for (const encoding of ['br', 'deflate', 'compress', 'aws-chunked,BR']) {
    await t.rejects(textsOf(`${base}/a.txt?${encoding}`), { code: 'ERR_IO', message: /gzip or zstd/ }, encoding);
  }
});

t.test('URLs with a login: it is sent to that server alone, and no message has it', async (t) => {
  const seen: (string | undefined)[] = [];
  const other = await serve(t, (request, response) => {
    seen.push(request.headers.authorization);
    response.end('3\n');
  });
  const base = await serve(t, (request, response) => {
    const { url, headers } = request;
    if (headers.authorization !== `Basic ${Buffer.from('me:s3cr@t言').toString('base64')}`)
      response.writeHead(401).end();
    else if (url === '/here') response.writeHead(302, { location: '/a.txt' }).end();
    else if (url === '/there') response.writeHead(302, { location: `${other}/a.txt` }).end();
    else response.end('1\n2\n');
  });
  const withLogin = base.replace('//', `//me:${encodeURIComponent('s3cr@t言')}@`);
  t.same(await textsOf(`${withLogin}/a.txt`), ['1', '2']);
  t.same(await textsOf(`${withLogin}/here`), ['1', '2']);
  t.same(await textsOf(`${withLogin}/there`), ['3']);
  t.same(seen, [undefined]);
  for (const name of [
    `${base.replace('//', '//me:s3cret@')}/a.txt`,
    'http://me:s3cret@127.0.0.1:1/a.txt?s3cret#s3cret',
    'http://me:s3cret%@127.0.0.1:1/a.txt',
    'http://me:s3cret@127.0.0.1/a.parquet?s3cret',
  ]) {
    const failure = await textsOf(name).catch((error: unknown) => error);
    t.match(failure, { message: '127.0.0.1', code: /^ERR_(IO|OPTIONS)$/ }, name);
    t.notMatch((failure as Error).message, /s3cret/, name);
  }
  for (const name of ['http://me:s3cret@127.0.0.1:port/a.txt?s3cret', 'http://me:a#s3cret@127.0.0.1/a.txt']) {
    const failure = await textsOf(name).catch((error: unknown) => error);
    t.match(
      failure,
      { message: /This is no URL.*received http:\/\/\.\.\.\n.*# is written %23/, code: 'ERR_OPTIONS' },
      name,
    );
    t.notMatch((failure as Error).message, /s3cret/, name);
  }
  for (const name of [
    'http://me:s3cret@127.0.0.1:1/a.bin',
    'http://127.0.0.1/a.bin?s3cret',
    'http://me:s3cret@h:p/a.bin',
  ]) {
    const failure = await TokenDataset.open(name, { tokenizer: NUMBERS_MARK, blockSize: 4 }).catch(
      (error: unknown) => error,
    );
    t.match(
      failure,
      { message: /^http:\/\/\S+ cannot be streamed: .*\n.*download it first/, code: 'ERR_OPTIONS' },
      name,
    );
    t.notMatch((failure as Error).message, /s3cret/, name);
    t.throws(() => areTokenFiles([name]), { message: (failure as Error).message });
  }
});

t.test('names as others may see them', async (t) => {
  for (const [name, shown] of [
    ['https://me:pw@host:8443/a%20b/c.txt?X-Amz-Signature=1#2', 'https://host:8443/a%20b/c.txt'],
    ['HTTP://host/a.txt?1', 'http://host/a.txt'],
    ['http://localhost:8000/a.txt?by=me@b', 'http://localhost:8000/a.txt'],
    ['http://me:p/w@host:port/a?1', 'http://...'],
    ['http://me:pw@host:port/a?1', 'http://...'],
    ['https://me:p#w@host/a', 'https://...'],
    ['https://me:p?w@host/a', 'https://...'],
    ['https://me:12#34@host/a', 'https://...'],
    ['https://me:12?34@host/a', 'https://...'],
    ['https://me:12/34@host/a', 'https://...'],
    ['https://me#1:2@host/a', 'https://...'],
    ['data/what?.txt', 'data/what?.txt'],
    ['-', '-'],
  ]) {
    t.equal(publicName(name), shown, name);
  }
  const value = { train: ['http://a/b?c', 'd?e'], n: 1, none: null, deep: { x: 'https://u@v/' } };
  t.same(publicNames(value), { train: ['http://a/b', 'd?e'], n: 1, none: null, deep: { x: 'https://v/' } });
});
