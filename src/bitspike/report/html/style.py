"""Head and style of the page; its policy lets it load nothing."""

from __future__ import annotations

HEAD = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<meta name="color-scheme" content="light dark">
<link rel="icon" href="data:,">
<style>
:root{--page:#f5f6f8;--card:#fff;--ink:#1c2430;--soft:#5b6675;--line:#dde1e7;--warn:#9a3b00;--warned:#fff1e6;
--c0:#1f6fd1;--c1:#d9661a;--c2:#2c8f57;--c3:#a23fb0;--c4:#b58900;--c5:#c2334d}
@media (prefers-color-scheme:dark){:root{--page:#12161c;--card:#1a2028;--ink:#e6eaf0;--soft:#9aa6b5;--line:#303946;
--warn:#ffb37a;--warned:#33231a;--c0:#6aaeff;--c1:#ff9a52;--c2:#5fcf8f;--c3:#d98be4;--c4:#e0bb4a;--c5:#ff7d92}}
*{box-sizing:border-box}
body{margin:0;background:var(--page);color:var(--ink);font:15px/1.5 system-ui,sans-serif}
main{max-width:1080px;margin:0 auto;padding:20px 16px 48px}
h1{font-size:1.6rem;line-height:1.2;margin:0 0 4px;overflow-wrap:anywhere}
h2{font-size:1.1rem;margin:0 0 12px}h3{font-size:.95rem;margin:18px 0 6px;overflow-wrap:anywhere}
section,details{background:var(--card);border:1px solid var(--line);border-radius:10px;padding:16px;margin-top:16px}
.note{color:var(--soft);margin:4px 0;overflow-wrap:anywhere}
.warn{color:var(--warn);background:var(--warned);padding:8px 12px;border-radius:8px;overflow-wrap:anywhere}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(140px,1fr));gap:10px;margin-top:16px}
.tiles div{background:var(--card);border:1px solid var(--line);border-radius:10px;padding:12px}
.tiles b{display:block;font-size:1.25rem}.tiles span{color:var(--soft);font-size:.82rem}
.charts{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,310px),1fr));gap:16px;margin-top:12px}
figure{margin:0;min-width:0}figcaption{font-weight:600;font-size:.85rem;margin-bottom:4px;overflow-wrap:anywhere}
svg{display:block;width:100%;height:auto}svg text{fill:var(--soft);font:10px system-ui,sans-serif}
.grid{stroke:var(--line)}polyline{stroke-width:1.8;stroke-linejoin:round}polyline.dash{stroke-dasharray:5 3}
polyline.c0{fill:none;stroke:var(--c0)}polyline.c1{fill:none;stroke:var(--c1)}polyline.c2{fill:none;stroke:var(--c2)}
polyline.c3{fill:none;stroke:var(--c3)}polyline.c4{fill:none;stroke:var(--c4)}polyline.c5{fill:none;stroke:var(--c5)}
.c0{fill:var(--c0);background:var(--c0)}.c1{fill:var(--c1);background:var(--c1)}
.c2{fill:var(--c2);background:var(--c2)}.c3{fill:var(--c3);background:var(--c3)}
.c4{fill:var(--c4);background:var(--c4)}.c5{fill:var(--c5);background:var(--c5)}
.keys{margin:4px 0 0;font-size:.75rem;color:var(--soft);overflow-wrap:anywhere}
.keys span{margin-right:12px;white-space:nowrap}
.keys i{display:inline-block;width:9px;height:9px;border-radius:2px;margin-right:5px}.keys i.dash{opacity:.55}
td{white-space:nowrap}.scroll{overflow-x:auto;margin-bottom:12px}table{border-collapse:collapse;font-size:.85rem;white-space:nowrap}
th,td{text-align:right;padding:5px 10px;border-bottom:1px solid var(--line);font-variant-numeric:tabular-nums}
th{color:var(--soft);font-weight:600}th:first-child,td:first-child{text-align:left;padding-left:0}
.raster{display:block;width:100%;height:auto;min-height:24px;image-rendering:pixelated;border:1px solid var(--line)}
.sample{width:96px;height:96px;image-rendering:pixelated;border-radius:6px}
section p{margin:8px 0 2px;font-size:.82rem;overflow-wrap:anywhere}
summary{cursor:pointer;font-weight:600}pre{overflow-x:auto;font-size:.8rem}
</style>"""
