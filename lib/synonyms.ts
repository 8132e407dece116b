/**
 * Names that mean the same here, in Transformers, in PyTorch or in nanoGPT: whoever uses one of a line where another one is
 * an option is told of that one. Upper case, hyphens and underscores do not matter.
 */
const SYNONYMS = [
  'inputIds ids x',
  'labels targets y',
  'lr learningRate',
  'gradClip maxGradNorm clipGradNorm',
  'betas beta1 beta2 adamBeta1 adamBeta2',
  'eps epsilon adamEpsilon',
  'schedule lrSchedulerType',
  'warmupSteps warmup warmupIters',
  'maxSteps steps maxIters iterations',
  'epochs numEpochs numTrainEpochs',
  'gradAccum gradientAccumulationSteps',
  'batchSize perDeviceTrainBatchSize',
  'evalEvery evalSteps evalInterval',
  'evalBatches evalIters',
  'saveEvery saveSteps',
  'keep saveTotalLimit',
  'out outDir outputDir',
  'train trainDataset',
  'valid val validation evalDataset',
  'nLayer numLayers numHiddenLayers',
  'nHead numHeads numAttentionHeads',
  'nEmbd hiddenSize dModel',
  'nInner intermediateSize',
  'dropout residPdrop embdPdrop attnPdrop',
  'nPositions blockSize nCtx contextLength maxPositionEmbeddings',
  'precision dtype torchDtype',
  'maxNewTokens maxTokens maxLength',
  'numSamples numReturnSequences',
].map((line) => line.split(' ').map(plain));

/** The candidate that means the same as `word`, if any. */
export function synonymOf<C extends string>(word: string, candidates: readonly C[]): C | undefined {
  return synonymsOf(word, candidates)[0];
}

/** The candidates that mean the same as `word`, or a part of it. */
export function synonymsOf<C extends string>(word: string, candidates: readonly C[]): C[] {
  const same = SYNONYMS.filter((line) => line.includes(plain(word)));
  return candidates.filter((candidate) => same.some((line) => line.includes(plain(candidate))));
}

/** `--n_Layer`, `n-layer` and `nLayer` are the same word to a person. */
export function plain(word: string): string {
  return word.toLowerCase().replaceAll(/[-_]/g, '');
}
