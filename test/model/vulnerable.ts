import { GPT2, type GPT2Config } from '../../dist/index.js';

/**
 * A model that eight bits damage: each column of c_fc has a weight beside which the others round to 0, and which meets
 * an input that is always 0.
 */
export async function vulnerable(config: Partial<GPT2Config> = {}): Promise<GPT2> {
  const sizes = { vocabSize: 61, nPositions: 80, nEmbd: 16, nHead: 2, nLayer: 1, initializerRange: 0.5 };
  const model = await GPT2.create({ ...sizes, ...config }, { device: 'cpu', threads: 1, seed: 2 });
  const change = async (name: string, first: number, count: number, value: number) => {
    const values = await model.readTensor(`transformer.h.0.${name}`);
    await model.writeTensor(`transformer.h.0.${name}`, values.fill(value, first, first + count));
  };
  await change('ln_2.weight', 0, 1, 0);
  await change('mlp.c_fc.weight', 0, 4 * model.config.nEmbd, 1e4);
  return model;
}
