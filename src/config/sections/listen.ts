// `listen`: where clients connect.
import * as value from '../values.ts';

export const listen = value.section({
  /** A name, or an IP address without brackets. */
  host: value.listenHost.prefault('127.0.0.1'),
  /** 0: any free port. */
  port: value.wholeNumber(0, 65535).prefault(5000),
  /** Further names that clients may use for it, beside those that nobody else can have (access/hosts.ts). */
  hosts: value.list(value.hostName).prefault([]),
});
