// `push`: what becomes of pushes and deletes. `through` relays them to the upstream, `off` denies them.
import * as value from '../values.ts';

export const push = value.oneOf('through', 'off').prefault('through');
