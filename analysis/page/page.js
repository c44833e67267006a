(function () {
  var root = document.documentElement, figures = document.querySelectorAll('.plotly-graph-div');
  function ink() { return getComputedStyle(root).getPropertyValue('--ink').trim(); }
  function paint() { figures.forEach(function (f) { if (window.Plotly && f.data) { Plotly.relayout(f, { 'font.color': ink() }); f.data.forEach(function (t, k) { if (t.type === 'parcoords') Plotly.restyle(f, { 'labelfont.color': ink(), 'tickfont.color': ink(), 'rangefont.color': ink() }, [k]); }); } }); }
  // A legend of several rows must not cover the titles of the panels: the figure grows by what it takes.
  function clear(f) {
    var legend = f.querySelector('.legend'), L = f.layout;
    var more = legend && L.margin ? Math.ceil(legend.getBoundingClientRect().height) + 28 - L.margin.t : 0;
    if (more <= 0) return;
    f.style.height = f.parentNode.style.height = L.height + more + 'px'; Plotly.relayout(f, { height: L.height + more, 'margin.t': L.margin.t + more });
  }
  // A title wider than its axis, which long names at its left have made short, goes on two lines.
  function broken(text, f) {
    var half = text.indexOf(' ', text.length / 2 - 4);
    return text.indexOf('<br>') < 0 && text.length * 7.5 > f._fullLayout._size.w && half > 0 ? text.slice(0, half) + '<br>' + text.slice(half + 1) : text;
  }
  // On a narrow screen the panels of a figure stand below one another: nothing is cut, nothing has to be pushed aside.
  function stack(f) {
    var L = f.layout, names = {};
    if (!f.data || f.clientWidth > 640) return;
    f.data.forEach(function (t) { if (t.xaxis !== undefined || t.type !== 'parcoords') names[(t.xaxis || 'x') + ' ' + (t.yaxis || 'y')] = 1; });
    var panels = Object.keys(names).map(function (n) { var p = n.split(' '), x = 'xaxis' + p[0].slice(1), y = 'yaxis' + p[1].slice(1); return { x: x, y: y, xd: (L[x] || {}).domain || [0, 1], yd: (L[y] || {}).domain || [0, 1] }; });
    var columns = {}; panels.forEach(function (p) { columns[p.xd[0].toFixed(3)] = 1; });
    if (Object.keys(columns).length < 2) return;
    panels.sort(function (a, b) { return b.yd[1] - a.yd[1] || a.xd[0] - b.xd[0]; });
    var margin = L.margin || { t: 64, b: 60 }, inner = L.height - margin.t - margin.b, tall = Math.max.apply(null, panels.map(function (p) { return (p.yd[1] - p.yd[0]) * inner; }));
    var lines = Math.max.apply(null, [1].concat((L.annotations || []).map(function (a) { return String(a.text).split('<br>').length; })));
    var gap = 100 + 20 * lines, total = panels.length * tall + (panels.length - 1) * gap, change = { height: total + margin.t + margin.b };
    var notes = (L.annotations || []).map(function (a) { return Object.assign({}, a); });
    panels.forEach(function (p, k) {
      var top = 1 - k * (tall + gap) / total, low = top - tall / total;
      notes.forEach(function (a, i) { var o = L.annotations[i]; if (o.xref === 'paper' && o.yref === 'paper' && o.x >= p.xd[0] - .01 && o.x <= p.xd[1] + .01 && Math.abs(o.y - p.yd[1]) < .03 && !a.moved) { a.x = 1; a.xanchor = 'right'; a.y = top; a.moved = true; }
        else if (o.textangle === 90 && o.y >= p.yd[0] && o.y <= p.yd[1] && !a.moved) { a.x = .5; a.y = top; a.textangle = 0; a.xanchor = 'center'; a.yanchor = 'bottom'; a.moved = true; } });
      var below = panels.filter(function (q) { return q.xd[0].toFixed(3) === p.xd[0].toFixed(3) && ((L[q.x] || {}).title || {}).text; })[0];
      var text = ((L[p.x] || {}).title || {}).text || (below && L[below.x].title.text);
      if (text) change[p.x + '.title.text'] = broken(text, f);
      change[p.x + '.domain'] = [0, 1]; change[p.y + '.domain'] = [low, top]; change[p.y + '.showticklabels'] = true; change[p.x + '.showticklabels'] = true;
    });
    change.annotations = notes.map(function (a) { delete a.moved; return a; });
    f.style.height = f.parentNode.style.height = change.height + 'px'; Plotly.relayout(f, change);
  }
  // Titles of axes are as long as they are: on a phone they are set smaller.
  function narrow(f) {
    var change = {};
    if (f.clientWidth < 480) Object.keys(f.layout).forEach(function (k) { if (/^xaxis/.test(k) && (f.layout[k].title || {}).text) change[k + '.title.font.size'] = 10; });
    // A panel's name stands above its axis, which names of rows push to the right: it ends where the axis ends.
    if (f.clientWidth < 480 && (f.layout.annotations || []).length) change.annotations = f.layout.annotations.map(function (a) {
      return a.xref === 'paper' && a.yref === 'paper' && !a.showarrow && !a.textangle && a.x > 0 ? Object.assign({}, a, { x: 1, xanchor: 'right', font: Object.assign({}, a.font, { size: 12 }) }) : a;
    });
    if (Object.keys(change).length) Plotly.relayout(f, change);
  }
  // What lies in a closed fold has no width yet: a figure gets its size when it is first seen.
  function settle(f) {
    if (f.settled || !f.data || !f.clientWidth) return;
    f.settled = true; Plotly.Plots.resize(f); clear(f); stack(f); narrow(f);
  }
  // A table that is wider than its place shows its rows below one another, with the name of the column before each value.
  function blocks() {
    document.querySelectorAll('.scroll table').forEach(function (t) {
      var heads = [].map.call(t.querySelectorAll('thead th'), function (h) { return h.textContent; });
      t.classList.remove('blocks');
      if (!heads.length || !t.parentNode.clientWidth || t.parentNode.scrollWidth <= t.parentNode.clientWidth + 1) return;
      t.querySelectorAll('tbody tr').forEach(function (r) { [].forEach.call(r.children, function (c, k) { if (heads[k] && !c.dataset.label) { var inner = document.createElement('span'); inner.append.apply(inner, c.childNodes); if (inner.childNodes.length) c.append(inner); c.dataset.label = heads[k]; } }); });
      t.classList.add('blocks');
    });
  }
  function reveal() {
    var target = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
    for (var d = target; d; d = d.parentElement) if (d.tagName === 'DETAILS') d.open = true;
    if (target) target.scrollIntoView();
  }
  function copying(code) {
    var button = document.createElement('button'), said = 'copy';
    button.type = 'button'; button.className = 'copy'; button.textContent = said;
    button.addEventListener('click', function () {
      var range = document.createRange(), chosen = getSelection();
      range.selectNodeContents(code); chosen.removeAllRanges(); chosen.addRange(range);
      button.textContent = document.execCommand('copy') ? 'copied' : 'press Ctrl+C'; setTimeout(function () { button.textContent = said; }, 2000);
    });
    code.after(button);
  }
  document.querySelectorAll('code.command').forEach(copying);
  document.getElementById('theme').addEventListener('click', function () {
    var dark = root.dataset.theme ? root.dataset.theme === 'dark' : matchMedia('(prefers-color-scheme: dark)').matches;
    root.dataset.theme = dark ? 'light' : 'dark'; paint();
  });
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', paint);
  document.querySelectorAll('details').forEach(function (d) { d.addEventListener('toggle', function () { if (d.open) { figures.forEach(settle); blocks(); } }); });
  window.addEventListener('hashchange', reveal);
  window.addEventListener('resize', blocks);
  window.addEventListener('load', function () { figures.forEach(settle); blocks(); paint(); reveal(); });
  window.addEventListener('beforeprint', function () { document.querySelectorAll('details').forEach(function (d) { d.open = true; }); });
})();
