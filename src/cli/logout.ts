// `ghcr-cache logout`: forgets logins to an upstream. A running server does so within a second.
import { openLogins } from '../compose/logins.ts';
import { type Command, type Options, parseArguments } from './options.ts';
import { configAt, PLACE } from './place.ts';

const OPTIONS = {
  name: { type: 'string', value: 'NAME', help: ['the login of this name alone'] },
  ...PLACE,
} as const satisfies Options;

export const logout: Command = {
  summary: 'forget the logins to an upstream: [HOST], ghcr.io if not given',
  options: OPTIONS,
  async run(args, { print }) {
    const { values, words } = parseArguments(args, OPTIONS, 1);
    const config = configAt(values);
    // Also one that the configuration has no more.
    const [host = config.default] = words;
    const names = await (await openLogins(config)).forget(host, values.name);
    const which = values.name === undefined ? '' : ` "${values.name}"`;
    if (names.length === 0) throw new Error(`no login${which} to ${host} is kept in ${config.data}`);
    print(`Forgotten: ${names.map(name => `"${name}"`).join(', ')} of ${host}.`);
  },
};
