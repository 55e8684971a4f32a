// `push`: what becomes of pushes and deletes. `through` relays them to the upstream, `off` denies them.
import * as value from '../values.ts';

/** Milliseconds: how long what was pushed stands against an upstream that answers what was before; 0: not at all. */
export const writeGrace = value.duration.prefault('60s');

export const push = value.oneOf('through', 'off').prefault('through');
