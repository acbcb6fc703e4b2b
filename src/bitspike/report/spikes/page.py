"""The page of a film of spikes."""

from __future__ import annotations

PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<style>body{{font-family:sans-serif;margin:1em}}h1{{font-size:1.2em}}h2{{font-size:1em;margin:1em 0 .2em}}
p{{margin:.4em 0 .1em;font-size:.85em}}canvas{{display:block;image-rendering:pixelated;border:1px solid #bbb}}
#keys span{{margin-right:1em}}#keys i{{display:inline-block;width:.8em;height:.8em;margin-right:.3em}}
#bar{{position:sticky;top:0;background:#fff;padding:.3em 0}}
img{{display:block;max-width:100%;margin-top:1em}}</style></head>
<body><h1>{title}</h1>
<div id="bar"><button id="b">pause</button> <input id="s" type="range" min="0" max="{last}" value="0">
<span id="t"></span><div id="keys">level of a spike: {legend}</div></div>
{body}
{picture}
<script>
const bytes = text => Uint8Array.from(atob(text), c => c.charCodeAt(0));
const colours = bytes("{palette}");
const films = {films}.map((film, i) => {{
  const canvas = document.getElementById("f" + i), pen = canvas.getContext("2d");
  canvas.style.width = film.w * film.zoom + "px";
  return {{ ...film, pen, image: pen.createImageData(film.w, film.h), data: bytes(film.data) }};
}});
let on = true;
function show(k) {{
  for (const film of films) {{
    const frame = Math.floor(Math.min(k, film.steps - 1) * film.n / film.steps), size = film.w * film.h;
    for (let i = 0; i < size; i++) {{
      const at = frame * size + i;
      for (let j = 0; j < 3; j++) {{
        film.image.data[4 * i + j] = film.deep === 3 ? film.data[3 * at + j] : colours[3 * film.data[at] + j];
      }}
      film.image.data[4 * i + 3] = 255;
    }}
    film.pen.putImageData(film.image, 0, 0);
  }}
  s.value = k;
  t.textContent = "step " + k;
}}
s.oninput = () => {{ on = false; b.textContent = "play"; show(+s.value); }};
b.onclick = () => {{ on = !on; b.textContent = on ? "pause" : "play"; }};
setInterval(() => {{ if (on) show((+s.value + 1) % ({last} + 1)); }}, {last} < 20 ? 400 : 100);
show(0);
</script></body></html>
"""
