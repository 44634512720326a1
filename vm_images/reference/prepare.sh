#!/bin/sh
# Makes a reference guest out of Debian with packages.txt: locale, users, the wine prefix. Runs once as root, in a
# container's build and in a virtual machine's first boot. 'trader' uses the desktop, 'svc' runs stand-in servers.
# - ko_KR.UTF-8: under C.UTF-8 wine shows Korean as empty boxes; with it the prefix has code page 949.
# - wine would link Desktop, Documents, Downloads and so on to the home folder, which on-access scanners do not watch.
# - wine waits five minutes for a new prefix and then starts its first program without one (c0000135). The making goes on,
#   so on a slow machine it is waited for and asked again.
# - wineserver -w: the registry is written when the last process has gone; without it the layer may hold half of it.
# - marlett.ttf holds the signs on the buttons of title bars; this wine does not find it in its own folder.
# - wine copies each of its own DLLs (650 MB) into the prefix. Links to the originals do the same in wine 8, and an
#   on-access scanner that watches drive C then has no need to leave drive_c/windows out.
set -eu
export LANG=ko_KR.UTF-8 LC_ALL=ko_KR.UTF-8
export WINEPREFIX=/home/trader/.wine WINEDEBUG=-all WINEDLLOVERRIDES=mscoree,mshtml=

localedef -i ko_KR -f UTF-8 ko_KR.UTF-8
useradd --uid 1000 --create-home --shell /bin/bash trader
useradd --system --no-create-home --shell /usr/sbin/nologin svc
install -d -m 1777 /tmp/.X11-unix
install -d -m 0755 /run/hts-compat /etc/hts-compat
iconv -f UTF-8 -t UTF-16 /opt/hts-compat/prefix.reg > /tmp/prefix.reg
setpriv --reuid trader --regid trader --clear-groups env HOME=/home/trader DISPLAY= sh -eu -c '
    wineboot -i || { wineserver -w; wineboot -i; }
    wine regedit /S "Z:\\tmp\\prefix.reg"
    wineserver -w
    cd "$WINEPREFIX/drive_c/users/trader"
    rm -rf Temp
    for name in Desktop Documents Downloads Music Pictures Videos Templates; do
        if [ -L "$name" ]; then rm "$name"; fi
        mkdir -p "$name"
    done
    mkdir -p AppData/Local/Temp AppData/LocalLow AppData/Roaming
    cd "$WINEPREFIX/drive_c/windows"
    ln -s /usr/share/wine/fonts/marlett.ttf Fonts/
    for own in /usr/lib/x86_64-linux-gnu/wine/x86_64-windows /usr/lib/i386-linux-gnu/wine/i386-windows \
               /usr/share/wine/nls; do
        [ -d "$own" ] || continue
        find . -type f -size +8k | while read -r file; do
            if cmp -s "$file" "$own/${file##*/}"; then ln -sf "$own/${file##*/}" "$file"; fi
        done
    done'
rm -rf /tmp/* /var/lib/apt/lists/* /var/cache/apt/* /usr/share/doc/* /usr/share/man/* /var/log/*.log
install -d -m 1777 /tmp/.X11-unix
