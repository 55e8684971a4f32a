/** What a person is told about a file that cannot be read, from the error that node:fs threw. */
export function fileProblem(error: unknown): string {
  const code = (error as { code?: unknown }).code;
  if (code === 'ENOENT' || code === 'ENOTDIR') return 'there is no such file';
  if (code === 'EACCES' || code === 'EPERM') return 'permission to read it is denied';
  if (code === 'EISDIR') return 'it is a directory, not a file';
  return `it cannot be read (${String(code ?? error)})`;
}
