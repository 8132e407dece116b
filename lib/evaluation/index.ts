export { type EvaluateOptions, type Evaluation, evaluate } from './evaluate.js';
export { type MultipleChoiceOptions, type MultipleChoiceResult, multipleChoice } from './multiple-choice.js';
export { type Question, readQuestions } from './questions.js';
