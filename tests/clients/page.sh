#!/usr/bin/env bash
# Makes a short run and looks at its report.html as people do: Chromium takes pictures, wide and as a phone, light
# and dark, and must have nothing to say on its console, where a refused script or a refused load would stand.
#
# usage: tests/clients/page.sh [FOLDER]    the pictures go there; a new folder where none is given
# CHROMIUM=... and TWELVEFOLD=... name other programs.
set -euo pipefail
cd "$(dirname "$0")/../.."
browser=${CHROMIUM:-chromium}
out=$(realpath -m "${1:-$(mktemp -d)}")
mkdir -p "$out"
if [ -z "${TWELVEFOLD:-}" ]; then
    cargo build --release --locked --bin twelvefold
    TWELVEFOLD=${CARGO_TARGET_DIR:-target}/release/twelvefold
fi
"$TWELVEFOLD" train --steps 300 --spheres 26 --eval-interval 50 --out "$out/run" --overwrite --quiet

# Prints what the console said. The first argument is a page.
look() {
    "$browser" --headless --no-sandbox --disable-gpu --hide-scrollbars --enable-logging=stderr \
        "${@:2}" "file://$1" 2>&1 >/dev/null | grep CONSOLE || true
}

# The look can fail: a script, and a picture from elsewhere, are refused aloud.
broken=$out/broken.html
sed 's|<main>|<script>alert(1)</script><img src="https://example.org/a.png"/><main>|' "$out/run/report.html" >"$broken"
said=$(look "$broken" --window-size=800,600 --screenshot="$out/broken.png")
[ "$(grep -c "Content Security Policy" <<<"$said")" -ge 2 ] || { echo "the console is not heard: $said"; exit 1; }
rm -f "$broken" "$out/broken.png"

for theme in dark light; do
    # Blink's own numbers: 0 is dark, 1 is light.
    [ $theme = dark ] && scheme=0 || scheme=1
    for size in 1200,4600 360,8600; do
        picture=$out/page-$theme-${size%,*}.png
        said=$(look "$out/run/report.html" --blink-settings=preferredColorScheme=$scheme \
            --window-size=$size --screenshot="$picture")
        [ -z "$said" ] || { echo "$said"; exit 1; }
        [ -s "$picture" ] || { echo "no picture $picture"; exit 1; }
        echo "$picture"
    done
done
said=$(look "$out/run/report.html" --no-pdf-header-footer --print-to-pdf="$out/page.pdf")
[ -z "$said" ] && [ -s "$out/page.pdf" ] || { echo "printing: $said"; exit 1; }
echo "$out/page.pdf"
echo "Chromium has nothing to say"
