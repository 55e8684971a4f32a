// The results as a web page: a plot and a table for every comparison, in one self-contained file.
import { type Comparison, digitsOf, type Series } from './bench.ts';

const WIDTH = 720;
const BAR = 22;
const NAME_WIDTH = 170;
const STYLE = `
  body { font: 15px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; color: #1b1f24 }
  h2 { margin-top: 2.5rem; border-bottom: 1px solid #d0d7de } h3 { margin-bottom: .3rem }
  table { border-collapse: collapse; margin: .6rem 0; font-size: 13px } td, th { padding: .15rem .8rem .15rem 0; text-align: right }
  td:first-child, th:first-child { text-align: left } p, svg text { color: #57606a; font-size: 13px }
  @media (prefers-color-scheme: dark) { body { background: #0d1117; color: #e6edf3 } svg text { fill: #e6edf3 } }
`;

/** A whole HTML page. */
export function reportOf(machine: Readonly<Record<string, string>>, comparisons: readonly Comparison[]): string {
  const scenarios = Map.groupBy(comparisons, ({ scenario }) => scenario);
  const sections = [...scenarios].map(([name, all]) => `<h2>${escaped(name)}</h2>\n${all.map(sectionOf).join('\n')}`);
  return `<!doctype html>
<html lang="en"><meta charset="utf-8"><title>ghcr-cache, measured</title><style>${STYLE}</style>
<h1>ghcr-cache, measured</h1>
<p>${escaped(Object.values(machine).join(' · '))}. Medians of interleaved runs; the line in a bar is the spread.</p>
${sections.join('\n')}
</html>
`;
}

function sectionOf({ title, metrics, series, notes }: Comparison): string {
  const [metric] = metrics;
  const caption = metric === undefined ? '' : `${metric.name}, ${metric.unit}; ${metric.better} is better`;
  const head = metrics.map(({ name, unit }) => `<th>${escaped(`${name}, ${unit}`)}</th><th>ours is</th>`);
  const rows = series.map(each => {
    const cells = each.spreads.map(({ median, min, max }, i) => {
      const digits = digitsOf(median);
      const ratio = each === series[0] ? '' : `${each.ratios[i]?.toPrecision(3)} ×`;
      const range = `${min.toFixed(digits)} to ${max.toFixed(digits)}`;
      if (!Number.isFinite(median)) return '<td></td><td></td>';
      return `<td title="${range}">${median.toFixed(digits)}</td><td>${ratio}</td>`;
    });
    return `<tr><td>${escaped(labelOf(each))}</td>${cells.join('')}</tr>`;
  });
  return `<h3>${escaped(title)}</h3>
${plotOf(series, caption)}
<table><tr><th></th>${head.join('')}</tr>${rows.join('')}</table>
${notes.map(note => `<p>${escaped(note)}</p>`).join('')}`;
}

/** A bar chart of the first metric. */
function plotOf(series: readonly Series[], caption: string): string {
  const largest = Math.max(...series.map(({ spreads }) => spreads[0]?.max ?? 0));
  const scaled = (value: number) => ((WIDTH - NAME_WIDTH - 90) * value) / largest;
  const bars = series.map((each, i) => {
    const [spread] = each.spreads;
    if (spread === undefined || !Number.isFinite(spread.median)) return '';
    const y = i * BAR;
    const middle = y + BAR / 2;
    const [from, to] = [NAME_WIDTH + scaled(spread.min), NAME_WIDTH + scaled(spread.max)];
    const fill = i === 0 ? '#1f6feb' : '#8c959f';
    return `<text x="0" y="${middle + 4}">${escaped(labelOf(each))}</text>
<rect x="${NAME_WIDTH}" y="${y + 3}" width="${scaled(spread.median)}" height="${BAR - 6}" fill="${fill}"/>
<line x1="${from}" x2="${to}" y1="${middle}" y2="${middle}" stroke="#cf222e" stroke-width="2"/>
<text x="${to + 6}" y="${middle + 4}">${spread.median.toFixed(digitsOf(spread.median))}</text>`;
  });
  const height = series.length * BAR;
  return `<svg viewBox="0 0 ${WIDTH} ${height + 18}" width="${WIDTH}" role="img" aria-label="${escaped(caption)}">
${bars.join('\n')}
<text x="${NAME_WIDTH}" y="${height + 13}">${escaped(caption)}</text></svg>`;
}

function labelOf({ name, version }: Series): string {
  return version === undefined ? name : `${name} (${version.split('+')[0]})`;
}

function escaped(text: string): string {
  return text.replace(/[&<>"]/g, character => `&#${character.charCodeAt(0)};`);
}
