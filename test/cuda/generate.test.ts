// `kotodama generate` where the device fails in the middle of a text.
import { join } from 'node:path';
import t from 'tap';
import { GPT2, Tokenizer } from '../../dist/index.js';
import { kotodama, TOKENIZER } from '../cli/program.js';
import { isReal } from './build.js';
import { noKernels, useDevice } from './device.js';

const device = useDevice();

if (device === undefined) {
  t.plan(0, noKernels);
} else if (isReal) {
  t.plan(0, 'a real device does not fail at will');
} else {
  t.test('what went wrong is said on a line of its own, after the text so far', async (t) => {
    const cwd = t.testdir();
    const tokenizer = await Tokenizer.fromPretrained(TOKENIZER);
    const { vocabSize, bosTokenId, eosTokenId } = tokenizer;
    const config = { vocabSize, bosTokenId, eosTokenId, nPositions: 32, nEmbd: 16, nHead: 2, nLayer: 1 };
    await using model = await GPT2.create(config, { device: 'cpu', threads: 1, seed: 2 });
    await model.savePretrained(join(cwd, 'model'), { tokenizer });
    const sim = { KOTODAMA_SIM_CHECKS: 'none', KOTODAMA_SIM_FAIL_LAUNCH: '150', KOTODAMA_SIM_REPORT: '/dev/null' };
    const generate = (...words: string[]) =>
      kotodama(['generate', '--model', 'model', '--device', 'cuda', '--prompt', 'Everyone', ...words], {
        cwd,
        env: { ...device, ...sim },
      });
    const [text, json] = await Promise.all([generate(), generate('--json')]);
    for (const { code, stderr } of [text, json]) {
      t.equal(code, 1);
      t.match(stderr, /^error ERR_DEVICE: CUDA reports CUDA_ERROR_ILLEGAL_ADDRESS/);
    }
    t.match(text.stdout, /^Everyone.+[^\n]\n$/s, 'some text, and the end of its line');
    t.equal(json.stdout, '');
  });
}
