"""Which files hold images that are read, and what other files are called."""

from __future__ import annotations

from pathlib import Path

IMAGES = frozenset({
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".gif", ".webp", ".bmp", ".dib", ".tif", ".tiff", ".ppm", ".pgm", ".pbm",
    ".pnm", ".pfm", ".avif", ".avifs", ".jp2", ".j2k", ".jpx", ".jpf", ".tga", ".ico", ".pcx", ".psd", ".qoi", ".sgi", ".dds",
    ".xbm", ".im", ".msp",
})  # fmt: skip
# Images that are not read, by their right names.
FOREIGN = {
    **dict.fromkeys((".heic", ".heif", ".hif"), "HEIC"),
    **dict.fromkeys((".dcm", ".dicom"), "DICOM"),
    **dict.fromkeys((".svg", ".svgz"), "SVG"),
    **dict.fromkeys(
        (".cr2", ".cr3", ".crw", ".nef", ".nrw", ".arw", ".sr2", ".dng", ".orf", ".rw2", ".raf", ".pef", ".raw"), "camera raw"
    ),
    ".exr": "OpenEXR",
    ".hdr": "Radiance HDR",
    ".jxl": "JPEG XL",
    ".xcf": "GIMP",
    ".nii": "NIfTI",
    ".czi": "Zeiss CZI",
    ".svs": "Aperio SVS",
    ".npy": "NumPy",
    ".eps": "PostScript",
    ".pdf": "PDF",
    ".mp4": "MPEG-4 video",
    ".avi": "AVI video",
    ".mov": "QuickTime video",
}
# What a whole image set may lie in and is not read.
CONTAINERS = {
    ".zip": "a zip archive: unpack it and name the folder",
    ".7z": "a 7-Zip archive: unpack it and name the folder",
    ".rar": "a RAR archive: unpack it and name the folder",
    ".gz": "a gzip archive: unpack it and name what was in it",
    ".tgz": "a compressed tar archive: unpack it, and name the folder or the plain .tar",
    ".bz2": "a bzip2 archive: unpack it and name what was in it",
    ".xz": "an xz archive: unpack it and name what was in it",
    ".zst": "a Zstandard archive: unpack it and name what was in it",
    ".npz": "a NumPy archive of arrays: save its images as PNG files in a folder for each class",
    ".npy": "a NumPy array: save its images as PNG files in a folder for each class",
    ".h5": "an HDF5 file: save its images as PNG files in a folder for each class",
    ".hdf5": "an HDF5 file: save its images as PNG files in a folder for each class",
    ".mat": "a MATLAB file: save its images as PNG files in a folder for each class",
    ".arrow": "an Arrow file: name the folder that datasets.save_to_disk wrote, or write it as parquet",
    ".feather": "a Feather file: write it as parquet",
    ".tfrecord": "a TFRecord file: write its images as PNG files in a folder for each class, or as a WebDataset tar",
    ".tfrecords": "a TFRecord file: write its images as PNG files in a folder for each class, or as a WebDataset tar",
    ".lmdb": "an LMDB database: write its images as PNG files in a folder for each class",
    ".mdb": "an LMDB database: write its images as PNG files in a folder for each class",
    ".pkl": "a pickle, which may run code when it is read: save its images as PNG files in a folder for each class",
    ".pickle": "a pickle, which may run code when it is read: save its images as PNG files in a folder for each class",
    ".pt": "a PyTorch file: save its images as PNG files in a folder for each class",
    ".pth": "a PyTorch file: save its images as PNG files in a folder for each class",
    ".rec": "an MXNet RecordIO file: write its images as PNG files in a folder for each class",
    ".beton": "an FFCV file: write its images as PNG files in a folder for each class",
    ".xlsx": "an Excel file: save it as CSV with a path and a label in each row",
    ".xls": "an Excel file: save it as CSV with a path and a label in each row",
    ".db": "a database: write its images as PNG files in a folder for each class",
    ".sqlite": "an SQLite database: write its images as PNG files in a folder for each class",
    ".yaml": "a YAML file: name a folder, a CSV, JSONL or parquet file, or a WebDataset tar",
    ".yml": "a YAML file: name a folder, a CSV, JSONL or parquet file, or a WebDataset tar",
    ".txt": "a text file: write it as CSV with a header, and a path and a label in each row",
    ".xml": "an XML file: write it as CSV with a path and a label in each row",
}
IGNORED = frozenset({"__MACOSX", "Thumbs.db", "desktop.ini", "Icon\r", "@eaDir", "lost+found"})
IDX = ("-ubyte", "-ubyte.gz", ".idx")


def ignored(name: str) -> bool:
    """Whether a file or folder is an operating system's, not the user's."""
    return name.startswith(".") or name in IGNORED


def is_image(path: Path) -> bool:
    """Whether a file's name is that of an image that is read."""
    return path.suffix.lower() in IMAGES


def foreign(path: Path) -> str | None:
    """What an image that is not read is called."""
    name = path.name.lower()
    return FOREIGN.get(".nii" if name.endswith(".nii.gz") else path.suffix.lower())


def container(path: Path) -> str | None:
    """What a file that may hold images and is not read is called, and what to do."""
    name = path.name.lower()
    if name.endswith(IDX):
        return "an IDX file as of MNIST: save its images as PNG files in a folder for each class"
    if ".tfrecord" in name:
        return CONTAINERS[".tfrecord"]
    if name.endswith((".tar.gz", ".tar.bz2", ".tar.xz", ".tar.zst")):
        return CONTAINERS[".tgz"]
    return CONTAINERS.get(path.suffix.lower())
