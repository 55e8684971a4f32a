// `listen` and `access`: where clients connect, and which of them may. This version has only the open mode, in which any
// client that reaches the port uses the stored credentials; so an address that is not loopback has to be asked for.
// That is decided at start: `access` is not part of Config.
import type { z } from 'zod';
import { isLoopback } from '../host.ts';
import type { Source } from '../source.ts';
import * as value from '../values.ts';

export const listen = value.section({
  /** A name, or an IP address without brackets. */
  host: value.listenHost.prefault('127.0.0.1'),
  /** 0: any free port. */
  port: value.wholeNumber(0, 65535).prefault(5000),
});

export const access = value.section({
  mode: value.only('open').prefault('open'),
  /** Whether any client may use an address that is not loopback. */
  network: value.flag.prefault(false),
});

/** Throws ConfigError when the network would be let in without having been asked for. */
export function checkAccess({ mode, network }: z.output<typeof access>, host: string, source: Source): void {
  if (network || isLoopback(host)) return;
  throw source.error(
    ['listen', 'host'],
    `${host} is not loopback, and in ${mode} mode any client that reaches it can use your credentials; ` +
      'write "access: { network: true }" if they all may',
  );
}
