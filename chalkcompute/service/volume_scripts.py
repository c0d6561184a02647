"""The shell programs that work on a mounted volume, for a POSIX shell with busybox's tools or GNU's.

The first argument of each is the folder where the volume is mounted. Paths come as arguments, never in the
text. They have no control characters (`volume_paths`), so that lines may hold them.
"""

from __future__ import annotations

__all__ = ["ENTRIES", "LEADS_OUT", "MARK", "NOT_A_FILE", "NOT_THERE", "PUT", "PUT_ALL", "READ", "TRUNCATED"]

NOT_THERE, NOT_A_FILE, LEADS_OUT, TRUNCATED = 72, 73, 74, 75
"""Exit codes with a meaning of their own."""
MARK = b"//"
"""Begins each record of a listing: names that replicas gave may hold everything but a `/` after another."""

# `inside`: the deepest part of a path that is there already must be in the volume, links followed.
_INSIDE = f"""
umask 022
top=$(readlink -f -- "$1") || exit {NOT_THERE}
inside() {{
  part=$1
  while [ ! -e "$part" ] && [ ! -L "$part" ]; do part=$(dirname -- "$part"); done
  real=$(readlink -f -- "$part") || exit {LEADS_OUT}
  case "${{real%/}}/" in "${{top%/}}"/*) ;; *) exit {LEADS_OUT} ;; esac
}}
"""

# path, size, mode, name to write under
PUT = f"""{_INSIDE}
target="$top/$2"
folder=$(dirname -- "$target")
inside "$folder"
[ -d "$target" ] && exit {NOT_A_FILE}
mkdir -p -- "$folder" || exit 1
part="$folder/$5"
trap 'rm -f -- "$part"' EXIT
trap 'exit 1' HUP INT TERM
head -c "$3" >"$part" || exit 1
[ "$(wc -c <"$part")" -eq "$3" ] || exit {TRUNCATED}
chmod "$4" -- "$part" && mv -f -- "$part" "$target"
"""

# size of the archive, folder to unpack into, name of its last file
PUT_ALL = f"""{_INSIDE}
part="$top/$3"
mkdir -- "$part" || exit 1
trap 'rm -rf -- "$part"' EXIT
trap 'exit 1' HUP INT TERM
head -c "$2" | tar -x -o -f - -C "$part" || exit {TRUNCATED}
[ -f "$part/$4" ] || exit {TRUNCATED}
rm -f -- "$part/$4"
cd -- "$part" || exit 1
find . -type d | while IFS= read -r name; do inside "$top/$name"; done || exit $?
find . -type f | while IFS= read -r name; do
  [ -d "$top/$name" ] && {{ echo "${{name#./}}"; exit {NOT_A_FILE}; }}
  :
done || exit $?
find . -type d | while IFS= read -r name; do mkdir -p -- "$top/$name" || exit 1; done || exit $?
find . -type f | while IFS= read -r name; do mv -f -- "$name" "$top/$name" || exit 1; done
"""

# path, depth for `find` (empty: all), what unfinished files begin with
ENTRIES = f"""{_INSIDE}
format='{MARK.decode()}%f %s %Y %n'
target="$top${{2:+/$2}}"
[ -e "$target" ] || [ -L "$target" ] || exit {NOT_THERE}
inside "$target"
if [ -d "$target" ]; then
  cd -- "$target" || exit 1
  find . ${{3:+-maxdepth "$3"}} -name "$4*" -prune -o ! -name . -exec stat -c "$format" -- {{}} +
else
  stat -c "$format" -- "$target"
fi
"""

# path
READ = f"""{_INSIDE}
target="$top/$2"
[ -e "$target" ] || [ -L "$target" ] || exit {NOT_THERE}
inside "$target"
[ -f "$target" ] || exit {NOT_A_FILE}
exec cat -- "$target"
"""
