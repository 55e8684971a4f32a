// `log`: what is written to stderr.
import * as value from '../values.ts';

export const log = value.section({
  level: value.oneOf('trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent').prefault('info'),
  /** For people or for programs; auto: for people on a terminal. */
  format: value.oneOf('auto', 'text', 'json').prefault('auto'),
});
